//! Packs the programs of this build as a release, and checks every file of it: what users download works, and agrees with the rest.
#![cfg(test)]

mod chart;
mod documents;
mod images;
mod packages;
mod parts;

use std::{collections::BTreeMap, fs};

use parts::{ARCHITECTURE, PLATFORM, Release, VERSION, build, output, root};

#[test]
fn a_release_is_complete_and_works() {
    let release = Release::build();
    every_file_has_its_checksum(&release);
    packages::archives_contain_programs_that_run(&release);
    packages::the_examples_are_those_of_the_documentation(&release);
    packages::debian_packages_install_run_and_leave_nothing(&release);
    images::image_archives_are_layouts_with_the_programs(&release);
    images::the_chart_is_an_oci_artifact(&release);
    documents::bills_of_materials_list_what_is_linked(&release);
    documents::the_provenance_names_every_file(&release);
    documents::the_krew_manifest_names_the_archive(&release);
    chart::the_packaged_chart_renders_what_is_committed(&release);
    chart::the_bundle_has_the_permissions_of_the_chart(&release);
}

fn every_file_has_its_checksum(release: &Release) {
    let sums = fs::read_to_string(release.path("SHA256SUMS")).unwrap();
    let named: Vec<_> = sums.lines().map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect();
    let mut files: Vec<_> = fs::read_dir(release.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "SHA256SUMS")
        .collect();
    files.sort();
    assert_eq!(named, files);
    output(release.command("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]));

    let linux = format!("{VERSION}-linux-{ARCHITECTURE}");
    let mut expected = vec![
        format!("ping-operator-{VERSION}.tgz"),
        format!("ping-operator-{VERSION}.yaml"),
        format!("ping-operator-bundle-{VERSION}.tar.gz"),
        format!("ping-operator-chart-{VERSION}.oci.tar"),
        format!("pingpipeline-examples-{VERSION}.tar.gz"),
        "pingpipeline.krew.yaml".to_owned(),
        format!("pingpipeline-{VERSION}.provenance.json"),
    ];
    for program in ["pingd", "pingd-dev", "pingctl", "kubectl-pingpipeline"] {
        expected.push(format!("{program}-{linux}.tar.gz"));
        expected.push(format!("{program}-{linux}.application.cdx.json"));
        expected.push(format!("{program}_{VERSION}_{PLATFORM}.deb"));
    }
    for image in ["pingd", "ping-operator"] {
        expected.push(format!("{image}-{linux}.oci.tar"));
        expected.push(format!("{image}-{linux}.container.cdx.json"));
    }
    expected.sort();
    assert_eq!(files, expected);
}

#[test]
fn a_version_or_architecture_that_cannot_be_built_is_an_error_that_says_what_to_do() {
    let other = if ARCHITECTURE == "x86_64" { "aarch64" } else { "x86_64" };
    let cases = BTreeMap::from([
        (("", ARCHITECTURE), "make release VERSION="),
        (("9.9.9", ARCHITECTURE), "change it there"),
        ((VERSION, "sparc"), "use x86_64 and aarch64"),
        // The programs that are given are for this machine.
        ((VERSION, other), "set ARCHS="),
    ]);
    let folder = tempfile::tempdir().unwrap();
    for ((version, architecture), expected) in cases {
        let to = folder.path().join("release");
        let ended = build(version, architecture, &to).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && said.contains(expected), "{version} {architecture}: {said}");
        assert!(!to.exists());
    }
}

#[test]
fn the_chart_readme_is_current() {
    let chart = root().join("charts/ping-operator");
    let page = output(std::process::Command::new(env!("CARGO_BIN_EXE_release")).arg("chart-readme").arg(&chart));
    let committed = fs::read_to_string(chart.join("README.md")).unwrap_or_default();
    assert!(page == committed, "charts/ping-operator/README.md is stale: run `make generate`");
}
