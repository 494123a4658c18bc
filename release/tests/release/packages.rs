//! Archives and Debian packages of the programs.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::parts::{ARCHITECTURE, PLATFORM, Release, VERSION, output, root};

const PROGRAMS: [&str; 4] = ["pingd", "pingd-dev", "pingctl", "kubectl-pingpipeline"];

pub(crate) fn archives_contain_programs_that_run(release: &Release) {
    for program in PROGRAMS {
        let name = format!("{program}-{VERSION}-linux-{ARCHITECTURE}");
        let folder = release.unpacked(&format!("{name}.tar.gz"));
        let folder = folder.path().join(name);
        assert!(output(Command::new(folder.join(program)).arg("--version")).contains(VERSION));
        assert!(folder.join("LICENSE").exists());
        assert_eq!(folder.join("man").exists(), program != "kubectl-pingpipeline", "{program}");
    }
}

pub(crate) fn the_examples_are_those_of_the_documentation(release: &Release) {
    let name = format!("pingpipeline-examples-{VERSION}");
    let folder = release.unpacked(&format!("{name}.tar.gz"));
    let manifests = |folder: &Path| -> BTreeMap<_, _> {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let manifests = files.filter(|file| file.extension().is_some_and(|extension| extension == "yaml"));
        manifests.map(|file| (file.file_name().unwrap().to_owned(), fs::read_to_string(&file).unwrap())).collect()
    };
    let packed = manifests(&folder.path().join(name));
    assert!(packed.contains_key(OsStr::new("demo.yaml")));
    assert!(packed == manifests(&root().join("examples")), "the examples of the release differ from examples/");
}

/// `dpkg` with a root folder of its own. Its packages' scripts run outside of it, because it has no shell, and see it in `DPKG_ROOT`.
fn dpkg(root: &Path) -> Command {
    let mut command = Command::new("dpkg");
    command.arg("--root").arg(root);
    // Libraries are this machine's. The log would be written next to this machine's.
    command.args(["--force-not-root", "--force-depends", "--force-script-chrootless", "--log=/dev/null"]);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

pub(crate) fn debian_packages_install_run_and_leave_nothing(release: &Release) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("var/lib/dpkg/info")).unwrap();
    fs::create_dir_all(root.join("var/lib/dpkg/updates")).unwrap();
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let files = PROGRAMS.map(|program| release.path(&format!("{program}_{VERSION}_{PLATFORM}.deb")));
    output(dpkg(root).arg("--install").args(&files));
    assert_eq!(output(dpkg(root).arg("--verify")), "");

    for (program, file) in PROGRAMS.iter().zip(&files) {
        let depends = output(Command::new("dpkg-deb").arg("--field").arg(file).arg("Depends"));
        assert!(depends.contains("libc6 (>= "), "{program} depends on {depends}");
        assert!(output(Command::new(root.join("usr/bin").join(program)).arg("--version")).contains(VERSION));
    }
    for file in [
        "usr/lib/systemd/system/pingd-server.service",
        "usr/lib/systemd/system/pingd-processor.service",
        "usr/share/man/man1/pingd-server.1.gz",
        "usr/share/man/man1/pingd-dev.1.gz",
        "usr/share/man/man1/pingctl.1.gz",
        "usr/share/bash-completion/completions/pingctl",
        "usr/share/doc/pingd/copyright",
    ] {
        assert!(root.join(file).metadata().unwrap().len() > 0, "{file} is empty");
    }
    counts(&root.join("usr/bin"));

    // A conffile stays until the package is purged.
    output(dpkg(root).arg("--remove").args(PROGRAMS));
    assert!(!root.join("usr/bin").exists() && root.join("etc/pingd/pingd.env").exists());
    output(dpkg(root).arg("--purge").arg("pingd"));
    assert!(!root.join("etc").exists() && !root.join("usr").exists());
}

/// A process that is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The installed server counts an event of the installed client.
fn counts(programs: &Path) {
    let [api, admin] = [ping_testbed::ports::free_port().unwrap(), ping_testbed::ports::free_port().unwrap()];
    let [api, admin] = [api, admin].map(|port| format!("127.0.0.1:{port}"));
    let mut server = Command::new(programs.join("pingd-dev"));
    server.args(["--memory", "--listen", &api, "--admin-listen", &admin]).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Running(server.spawn().unwrap());
    let started = Instant::now();
    let pingctl =
        |command: &str| Command::new(programs.join("pingctl")).args([command, "--addr", &api]).output().unwrap();
    while !pingctl("ping").status.success() {
        assert!(started.elapsed() < Duration::from_secs(60), "the server does not accept an event");
        std::thread::sleep(Duration::from_millis(50));
    }
    while !String::from_utf8_lossy(&pingctl("count").stdout).starts_with('1') {
        assert!(started.elapsed() < Duration::from_secs(60), "the event is not counted: {:?}", pingctl("count"));
        std::thread::sleep(Duration::from_millis(50));
    }
}
