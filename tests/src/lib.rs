//! What crosses the crates is tested from `tests/`. Here is what a real cluster needs besides: stand-ins for the operators
//! that no package registry has.

pub mod stand_ins;
