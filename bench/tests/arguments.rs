//! The command line of the benchmarks.
#![cfg(test)]

use std::process::Command;

#[test]
fn an_unknown_benchmark_is_refused_with_the_known_ones() {
    let output = Command::new(env!("CARGO_BIN_EXE_ping-bench")).arg("sorces").output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("'sorces'") && message.contains("drain, sources"), "{message}");
}
