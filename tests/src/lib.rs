//! Stand-ins for the operators that a real cluster needs but that no package registry provides. The tests that span several
//! crates are in `tests/`: the README, the images and the end-to-end test.

pub mod stand_ins;
