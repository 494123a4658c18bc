//! Stand-ins for the operators that a real cluster needs but that no package registry provides, and the commands of documentation pages. The
//! tests that span several crates are in `tests/`: the README, the images and the end-to-end tests.

pub mod page;
pub mod stand_ins;
