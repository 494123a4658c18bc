//! Runs the conformance suite of Connect against `conformance-server`: every call and every error, in each protocol, HTTP version,
//! codec and compression of `config.yaml`.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::{
    env,
    io::Write,
    path::PathBuf,
    process::{Command, Output},
};

/// What the suite consists of, in the version of `testbed/install.sh`. Fewer cases mean that `config.yaml` lost some.
const CASES: usize = 2852;
/// Calls at a time. Many cases wait for a delay or a timeout, so that two cores are busy only with several times the default of 8.
const PARALLEL_CALLS: &str = "32";

#[test]
fn every_case_of_the_suite_passes() {
    let output = run_suite();
    let report = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}{report}", output.status);
    // The runner also succeeds if it could not run a case.
    let passed = passed(&report);
    assert_eq!(passed, CASES, "\n{errors}{report}");
    // Not by `println!`, whose text the test runner shows of failed tests only.
    writeln!(std::io::stdout(), "{passed} cases of the conformance suite passed").unwrap();
}

fn run_suite() -> Output {
    let runner = cache_folder().join("bin/connectconformance");
    assert!(runner.exists(), "{} is missing; run `make install-conformance`", runner.display());
    let mut command = Command::new(runner);
    command.args(["--mode", "server", "--parallel", PARALLEL_CALLS]);
    command.args(["--conf", concat!(env!("CARGO_MANIFEST_DIR"), "/config.yaml")]);
    command.args(["--", env!("CARGO_BIN_EXE_conformance-server")]).output().unwrap()
}

/// As in `testbed/install.sh`, but like the testbed ignores a relative path, as the XDG specification requires.
fn cache_folder() -> PathBuf {
    let given = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = given.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").unwrap()).join(".cache"));
    cache.join("pingpipeline")
}

/// From the last lines of the runner: `Total cases: 9`, then `7 passed, 2 failed`.
fn passed(report: &str) -> usize {
    let count = report.lines().find_map(|line| line.split_once(" passed, ")?.0.parse().ok());
    count.unwrap_or_else(|| panic!("no summary:\n{report}"))
}
