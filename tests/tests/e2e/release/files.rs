//! The files of a release, checked and unpacked.

use std::{
    collections::BTreeSet,
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tempfile::TempDir;

const SUMS: &str = "SHA256SUMS";
const PROGRAMS: [&str; 3] = ["pingd", "pingctl", "kubectl-pingpipeline"];
const IMAGES: [&str; 2] = ["pingd", "ping-operator"];

/// A folder of files that match their checksums.
pub(super) struct Release {
    folder: PathBuf,
    version: String,
    /// The files that [`SUMS`] lists.
    listed: BTreeSet<String>,
    unpacked: TempDir,
}

impl Release {
    /// Opens the release in a folder.
    ///
    /// # Errors
    /// If there is none, or if a file is missing or differs from its checksum.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let sums = fs::read_to_string(folder.join(SUMS)).with_context(|| {
            format!(
                "no release in {}: build one with `make release VERSION=0.1.0`, or name the folder of one with \
                 `make e2e-release RELEASE=…`",
                folder.display()
            )
        })?;
        let folder = folder.canonicalize()?;
        run(Command::new("sha256sum").args(["--check", "--strict", "--quiet", SUMS]).current_dir(&folder))
            .context("a file of the release is missing or differs from its checksum: build the release again")?;
        let listed: BTreeSet<String> = sums.lines().filter_map(|line| Some(line.split_once("  ")?.1.into())).collect();
        let version = listed.iter().find_map(|file| file.strip_prefix("ping-operator-")?.strip_suffix(".tgz"));
        let version = version.with_context(|| format!("{SUMS} lists no chart"))?.to_owned();
        Ok(Self { folder, version, listed, unpacked: tempfile::tempdir()? })
    }

    /// The chart. The artifact for registries must contain the same bytes.
    pub(super) fn chart(&self) -> anyhow::Result<PathBuf> {
        let chart = self.file(&format!("ping-operator-{}.tgz", self.version))?;
        let layout = self.unpack(&format!("ping-operator-chart-{}.oci.tar", self.version), "chart", 0)?;
        let manifest = blob(&layout, &json(&layout.join("index.json"))?["manifests"][0])?;
        let layer = blob(&layout, &json(&manifest)?["layers"][0])?;
        ensure!(
            fs::read(&chart)? == fs::read(layer)?,
            "the chart in the OCI artifact differs from {}",
            chart.display()
        );
        Ok(chart)
    }

    /// The chart as plain YAML.
    pub(super) fn plain_yaml(&self) -> anyhow::Result<PathBuf> {
        self.file(&format!("ping-operator-{}.yaml", self.version))
    }

    /// The archives of the images for this machine.
    pub(super) fn images(&self) -> anyhow::Result<Vec<PathBuf>> {
        IMAGES.iter().map(|image| self.file(&format!("{}.oci.tar", self.of_this_machine(image)))).collect()
    }

    /// A folder with the programs for this machine. Each has the version of the release.
    pub(super) fn programs(&self) -> anyhow::Result<PathBuf> {
        for program in PROGRAMS {
            let folder = self.unpack(&format!("{}.tar.gz", self.of_this_machine(program)), "programs", 1)?;
            let printed = run(Command::new(folder.join(program)).arg("--version"))?;
            ensure!(printed.contains(&self.version), "{program} is not {}: {printed}", self.version);
        }
        Ok(self.unpacked.path().join("programs"))
    }

    /// A folder with the example manifests.
    pub(super) fn examples(&self) -> anyhow::Result<PathBuf> {
        self.unpack(&format!("pingpipeline-examples-{}.tar.gz", self.version), "examples", 1)
    }

    fn of_this_machine(&self, name: &str) -> String {
        format!("{name}-{}-linux-{ARCH}", self.version)
    }

    /// The path of a file that has a checksum.
    fn file(&self, name: &str) -> anyhow::Result<PathBuf> {
        ensure!(
            self.listed.contains(name),
            "the release in {} has no {name}: build one for {ARCH} with `make release VERSION={}`",
            self.folder.display(),
            self.version
        );
        Ok(self.folder.join(name))
    }

    /// Unpacks an archive into a folder of this name, without the first `components` of each path.
    fn unpack(&self, archive: &str, name: &str, components: u8) -> anyhow::Result<PathBuf> {
        let (archive, folder) = (self.file(archive)?, self.unpacked.path().join(name));
        fs::create_dir_all(&folder)?;
        let strip = format!("--strip-components={components}");
        run(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&folder).arg(strip))?;
        Ok(folder)
    }
}

/// The file of a descriptor in an OCI layout.
fn blob(layout: &Path, descriptor: &Value) -> anyhow::Result<PathBuf> {
    let digest = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
    Ok(layout.join("blobs/sha256").join(digest.with_context(|| format!("no digest in {descriptor}"))?))
}

fn json(file: &Path) -> anyhow::Result<Value> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", file.display()))
}

/// Runs a command and returns its output.
fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    ensure!(output.status.success(), "{command:?}: {}\n{stdout}{stderr}", output.status);
    Ok(stdout)
}

/// Packs a release of programs that only print their version.
const SMALL_RELEASE: &str = r#"
set -eu
linux=1.2.3-linux-$(uname -m)
for program in pingd pingctl kubectl-pingpipeline; do
  mkdir "$program-$linux"
  printf '#!/bin/sh\necho %s 1.2.3\n' "$program" >"$program-$linux/$program"
  chmod +x "$program-$linux/$program"
  tar -czf "$program-$linux.tar.gz" "$program-$linux"
done
mkdir pingpipeline-examples-1.2.3
echo 'kind: PingPipeline' >pingpipeline-examples-1.2.3/demo.yaml
tar -czf pingpipeline-examples-1.2.3.tar.gz pingpipeline-examples-1.2.3
touch "pingd-$linux.oci.tar" "ping-operator-$linux.oci.tar"
echo chart | tee ping-operator-1.2.3.tgz >layer
mkdir -p blobs/sha256
echo '{"manifests": [{"digest": "sha256:manifest"}]}' >index.json
echo '{"layers": [{"digest": "sha256:layer"}]}' >blobs/sha256/manifest
mv layer blobs/sha256/layer
tar -cf ping-operator-chart-1.2.3.oci.tar index.json blobs
sha256sum -- *.tar *.tgz *.tar.gz >SHA256SUMS
"#;

fn small_release() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    run(Command::new("bash").args(["-c", SMALL_RELEASE]).current_dir(folder.path())).unwrap();
    folder
}

/// The error with its causes.
fn error<T>(result: anyhow::Result<T>) -> String {
    format!("{:#}", result.err().unwrap())
}

#[test]
fn a_release_is_checked_and_unpacked() {
    let folder = small_release();
    let release = Release::open(folder.path()).unwrap();
    let programs = release.programs().unwrap();
    assert!(PROGRAMS.iter().all(|program| programs.join(program).is_file()));
    assert_eq!(fs::read_to_string(release.examples().unwrap().join("demo.yaml")).unwrap(), "kind: PingPipeline\n");
    assert_eq!(fs::read_to_string(release.chart().unwrap()).unwrap(), "chart\n");
    let images = release.images().unwrap();
    assert!(images.len() == 2 && images.iter().all(|image| image.is_absolute() && image.is_file()), "{images:?}");
    assert!(error(release.plain_yaml()).contains("has no ping-operator-1.2.3.yaml: build one"));
}

#[test]
fn a_folder_without_a_release_is_an_error_that_says_how_to_build_one() {
    let folder = tempfile::tempdir().unwrap();
    let said = error(Release::open(&folder.path().join("missing")));
    assert!(said.contains("make release VERSION=") && said.contains("RELEASE=…"), "{said}");
}

#[test]
fn a_changed_or_missing_file_is_an_error() {
    for (change, expected) in [
        ("echo more >>ping-operator-1.2.3.tgz", "ping-operator-1.2.3.tgz: FAILED"),
        ("rm ping-operator-1.2.3.tgz", "ping-operator-1.2.3.tgz: FAILED open or read"),
        ("echo 'no sum' >>SHA256SUMS", "improperly formatted"),
        ("sed -i /tgz/d SHA256SUMS", "lists no chart"),
    ] {
        let folder = small_release();
        run(Command::new("bash").args(["-c", change]).current_dir(folder.path())).unwrap();
        let said = error(Release::open(folder.path()));
        assert!(said.contains(expected), "{change}: {said}");
    }
}

#[test]
fn an_artifact_with_another_chart_is_an_error() {
    let folder = small_release();
    let change = "echo other >ping-operator-1.2.3.tgz; sha256sum -- *.tar *.tgz *.tar.gz >SHA256SUMS";
    run(Command::new("bash").args(["-c", change]).current_dir(folder.path())).unwrap();
    let release = Release::open(folder.path()).unwrap();
    assert!(error(release.chart()).contains("differs from"));
}
