//! What crosses the crates is tested from `tests/`; there is nothing to use here.
