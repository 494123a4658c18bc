use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::json;

use super::*;

const KIB_PER_GIB: u64 = KIB_PER_MIB * MIB_PER_GIB;

fn disk(how: How) -> Disk {
    let duration = Duration::from_secs(60);
    Disk { target: Target::Postgres, selector: "a=b".into(), how, duration, leave_mib: 100, max_gib: 20 }
}

/// Starts the script as the drill does, and waits for its first line.
fn start(how: How, folder: &Path) -> (Child, String) {
    let command = disk(how).command(&folder.to_string_lossy(), 2048);
    let mut script = Command::new(&command[0]);
    script.args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = script.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(script.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (script, line)
}

/// Bytes of files without a name that any process still has open under `folder`.
fn held(folder: &Path) -> u64 {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let descriptors = processes.filter_map(|process| fs::read_dir(process.path().join("fd")).ok()).flatten().flatten();
    let files = descriptors.filter(|file| {
        fs::read_link(file.path())
            .is_ok_and(|target| target.starts_with(folder) && target.to_string_lossy().ends_with("(deleted)"))
    });
    files.filter_map(|file| Some(fs::metadata(file.path()).ok()?.len())).max().unwrap_or_default()
}

fn wait_until_free(folder: &Path) {
    let started = Instant::now();
    while held(folder) > 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "the space is still occupied");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_space_is_free_again_when_the_caller_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    for how in [How::Slow, How::Full] {
        let (mut script, line) = start(how, folder.path());
        assert_eq!(line.trim(), if how == How::Slow { "32" } else { "full" });
        assert!(held(folder.path()) >= 256 * 1024, "nothing is occupied");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the file has a name");
        drop(script.stdin.take());
        drop(script.stdout.take());
        script.wait().unwrap();
        wait_until_free(folder.path());
    }
}

#[test]
fn the_space_is_free_again_when_the_script_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut script, _) = start(How::Full, folder.path());
    assert_eq!(held(folder.path()), 2048 * 1024);
    // The group of `timeout` and the shell.
    let killed = Command::new("kill").args(["-9", "--", &format!("-{}", script.id())]).status().unwrap();
    assert!(killed.success());
    script.wait().unwrap();
    wait_until_free(folder.path());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn only_a_file_system_of_its_own_is_filled_and_within_bounds() {
    let capacity = (10 * KIB_PER_GIB * 1024) as f64;
    let space = |size_gib: u64, free_kib: u64| Space { size_kib: size_gib * KIB_PER_GIB, free_kib };
    let to_occupy = |space| disk(How::Full).to_occupy("data-0", space, capacity).map_err(|error| error.to_string());
    assert_eq!(to_occupy(space(10, 4 * KIB_PER_GIB)), Ok(4 * KIB_PER_GIB - 100 * 1024));
    let shared = to_occupy(space(900, 4 * KIB_PER_GIB)).unwrap_err();
    assert!(shared.contains("a folder on a file system of 900 GiB, which others share"), "{shared}");
    assert!(to_occupy(space(10, 100 * 1024)).unwrap_err().contains("less than 100 MiB free"));
    assert!(to_occupy(space(10, 21 * KIB_PER_GIB)).unwrap_err().contains("more than --max-gib 20"));
}

#[test]
fn sizes_are_read_from_df() {
    let printed = "Filesystem     1024-blocks    Used Available Capacity Mounted on\n\
                   map auto home     10218772 1000000   9202388      10% /var/lib/postgresql/data\n";
    assert_eq!(Space::parse(printed), Some(Space { size_kib: 10_218_772, free_kib: 9_202_388 }));
    assert_eq!(Space::parse("df: not found"), None);
}

#[test]
fn the_volume_with_the_log_is_preferred_and_others_are_ignored() {
    let pod = |mounts: serde_json::Value| -> Pod {
        serde_json::from_value(json!({ "metadata": {}, "spec": {
            "containers": [{ "name": "plugin" }, { "name": "postgres", "volumeMounts": mounts }],
            "volumes": [
                { "name": "scratch", "emptyDir": {} },
                { "name": "pgdata", "persistentVolumeClaim": { "claimName": "p-1" } },
                { "name": "pg-wal", "persistentVolumeClaim": { "claimName": "p-1-wal" } },
            ],
        }}))
        .unwrap()
    };
    let data = json!({ "name": "pgdata", "mountPath": "/var/lib/postgresql/data" });
    let wal = json!({ "name": "pg-wal", "mountPath": "/var/lib/postgresql/wal" });
    let scratch = json!({ "name": "scratch", "mountPath": "/run" });
    let claim = |mounts| Volume::of(&pod(mounts)).map(|volume| (volume.container, volume.claim));
    assert_eq!(claim(json!([scratch, data, wal])), Some(("postgres".into(), "p-1-wal".into())));
    assert_eq!(claim(json!([scratch, data])), Some(("postgres".into(), "p-1".into())));
    assert_eq!(claim(json!([scratch])), None);
}

#[test]
fn a_drill_without_effect_is_an_error() {
    let output = |stdout: &str| Output { stdout: stdout.into(), stderr: "No space".into(), failure: None };
    let took = Duration::from_millis(15_300);
    let describe =
        |how, stdout| disk(how).describe("p-1", 2048, &output(stdout), took).map_err(|error| error.to_string());
    assert_eq!(describe(How::Slow, "32\n32\n"), Ok("slowed p-1: 64 writes, 15s".into()));
    assert_eq!(describe(How::Full, "full\n"), Ok("filled p-1: 2 MiB, 15s".into()));
    for how in [How::Slow, How::Full] {
        let error = describe(how, "").unwrap_err();
        assert!(error.contains("No space") && error.contains("The container needs sh"), "{error}");
    }
}
