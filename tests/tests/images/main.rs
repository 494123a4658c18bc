//! Checks that our images are complete: every program starts. `make e2e` tests them in a cluster.
#![cfg(test)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The folder of the programs of this build.
fn programs() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}\n{stdout}{}", String::from_utf8_lossy(&output.stderr));
    stdout
}

/// The value in `key = "value"`, or in `key: value`.
fn value(file: &str, key: &str) -> String {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key} in {file}"));
    line.trim_start_matches([' ', '=', ':']).trim_matches('"').to_owned()
}

#[test]
fn every_program_runs_from_its_image_alone() {
    let roots = tempfile::tempdir().unwrap();
    output(Command::new(root().join("images/roots.sh")).arg(programs()).arg(roots.path()));
    for (image, program) in [("pingd", "pingd"), ("pingd", "pingctl"), ("ping-operator", "ping-operator")] {
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "chroot"])
            .arg(roots.path().join(image))
            .args([program, "--version"]);
        let stdout = output(command.env_clear().env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin"));
        assert!(stdout.starts_with(program), "{stdout}");
    }
    let shell = roots.path().join("pingd/bin/sh");
    assert!(!shell.exists(), "the image contains a shell");
}

#[test]
fn the_dockerfile_builds_with_the_rust_that_the_workspace_asks_for() {
    let dockerfile = fs::read_to_string(root().join("images/Dockerfile")).unwrap();
    let rust = value("Cargo.toml", "rust-version");
    assert!(
        dockerfile.contains(&format!("FROM rust:{rust}-")),
        "the Dockerfile does not use Rust {rust}:\n{dockerfile}"
    );
}

#[test]
fn the_chart_asks_for_the_images_that_are_built() {
    assert_eq!(value("charts/ping-operator/Chart.yaml", "appVersion"), value("Cargo.toml", "version"));
}
