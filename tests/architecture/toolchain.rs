//! One version of Rust, in the three places that name it.

use std::fs;

use crate::source::root;

/// The value in `key = "value"`.
fn value(file: &str, key: &str) -> String {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key} in {file}"));
    line.trim_matches([' ', '=', '"']).to_owned()
}

#[test]
fn the_pinned_toolchain_is_the_one_that_the_workspace_asks_for() {
    let rust = value("Cargo.toml", "rust-version");
    let pinned = value("rust-toolchain.toml", "channel");
    assert!(pinned.starts_with(&format!("{rust}.")), "rust-toolchain.toml pins {pinned}, Cargo.toml asks for {rust}");
    let dockerfile = fs::read_to_string(root().join("images/Dockerfile")).unwrap();
    assert!(dockerfile.contains(&format!("FROM rust:{rust}")), "images/Dockerfile does not build with Rust {rust}");
}
