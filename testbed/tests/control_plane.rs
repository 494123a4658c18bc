//! The control plane as tests use it. Requires `testbed/control-plane/install.sh`.

#![allow(clippy::unwrap_used, reason = "a failure here fails a test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ping_testbed::{
    control_plane::{self, ControlPlane, Options},
    pid::Pid,
};
use tokio::sync::OnceCell;

const BARE: Options = Options { crds: false, more_crds: Vec::new(), scheduler: false, nodes: None };

/// A control plane shared by tests that do not affect each other. It stops with this process.
async fn shared() -> &'static ControlPlane {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    let options = Options { scheduler: true, ..Options::default() };
    SHARED.get_or_init(async || ControlPlane::start_with(options).await.unwrap()).await
}

/// Real CRDs and manifests, which exist only if `shared/` is next to the checkout.
fn shared_folder(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(name);
    let found = folder.is_dir().then_some(folder);
    if found.is_none() {
        println!("no ../shared/{name}; skipping the comparison");
    }
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn the_real_operators_manifests_are_accepted() {
    let control_plane = shared().await;
    println!("{}", fs::read_to_string(control_plane::crds().unwrap().join("SOURCES")).unwrap());
    let Some(manifests) = shared_folder("manifests") else { return };
    let namespaces = manifests.join("00-namespaces.yaml");
    control_plane.kubectl(["apply", "-f", namespaces.to_str().unwrap()]).await.unwrap();
    for manifest in files(&manifests) {
        let file = manifest.to_str().unwrap();
        control_plane.kubectl(["apply", "--server-side", "--dry-run=server", "-f", file]).await.unwrap();
    }
}

#[test]
fn the_crds_from_registries_are_the_real_ones() {
    let Some(real) = shared_folder("crds") else { return };
    let obtained = control_plane::crds().unwrap();
    for folder in files(&real) {
        for file in files(&folder) {
            let copy = obtained.join(file.strip_prefix(&real).unwrap());
            assert!(fs::read(&file).unwrap() == fs::read(&copy).unwrap(), "{} differs", copy.display());
        }
    }
}

#[tokio::test]
async fn our_stand_in_for_dragonfly_takes_what_we_set() {
    let control_plane = ControlPlane::start_with(BARE).await.unwrap();
    let stand_in = concat!(env!("CARGO_MANIFEST_DIR"), "/control-plane/crds/dragonfly-stand-in.yaml");
    control_plane.install_crds(Path::new(stand_in)).await.unwrap();
    let cache = |spec: &str| {
        format!("{{apiVersion: dragonflydb.io/v1alpha1, kind: Dragonfly, metadata: {{name: cache}}, spec: {spec}}}")
    };
    let apply = ["apply", "--server-side", "-f", "-"];
    let full = cache(
        "{replicas: 2, args: [--cache_mode=true], resources: {limits: {cpu: 1, memory: 1Gi}}, pdb: {maxUnavailable: 1},
          authentication: {passwordFromSecret: {name: auth, key: password}}, enableReplicationReadinessGate: true,
          snapshot: {cron: '*/15 * * * *', persistentVolumeClaimSpec: {accessModes: [ReadWriteOnce]}},
          topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]}",
    );
    control_plane.kubectl_with_input(apply, &full).await.unwrap();
    let refused = control_plane.kubectl_with_input(apply, &cache("{replicaz: 2}")).await.unwrap_err();
    assert!(refused.to_string().contains("field not declared in schema"), "{refused}");
}

#[tokio::test]
async fn an_object_goes_with_its_owner() {
    let control_plane = shared().await;
    let owner = "{apiVersion: dragonflydb.io/v1alpha1, kind: Dragonfly, metadata: {name: owner}}";
    control_plane.kubectl_with_input(["create", "-f", "-"], owner).await.unwrap();
    let uid = control_plane.kubectl(["get", "dragonfly", "owner", "-o", "jsonpath={.metadata.uid}"]).await.unwrap();
    let owned = format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: owned, ownerReferences:
           [{{apiVersion: dragonflydb.io/v1alpha1, kind: Dragonfly, name: owner, uid: {uid}}}]}}}}"
    );
    control_plane.kubectl_with_input(["create", "-f", "-"], &owned).await.unwrap();
    control_plane.kubectl(["delete", "dragonfly", "owner"]).await.unwrap();
    control_plane.kubectl(["wait", "--for=delete", "configmap/owned", "--timeout=10s"]).await.unwrap();
}

#[tokio::test]
async fn a_pod_gets_a_node_from_the_scheduler() {
    let control_plane = shared().await;
    let node = "{apiVersion: v1, kind: Node, metadata: {name: paper}, \
                 status: {capacity: {pods: 9}, allocatable: {pods: 9}}}";
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: passenger}, \
                spec: {tolerations: [{operator: Exists}], containers: [{name: main, image: none}]}}";
    for object in [node, pod] {
        control_plane.kubectl_with_input(["create", "-f", "-"], object).await.unwrap();
    }
    let scheduled = ["wait", "--for=condition=PodScheduled", "pod/passenger", "--timeout=30s"];
    control_plane.kubectl(scheduled).await.unwrap();
}

#[tokio::test]
async fn the_audit_log_records_who_requested_what() {
    let control_plane = shared().await;
    let forbidden = ["--as=intruder", "get", "secrets"];
    assert!(control_plane.kubectl(forbidden).await.unwrap_err().to_string().contains("Forbidden"));
    let log = fs::read_to_string(control_plane.audit_log_path()).unwrap();
    let events = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let recorded = events.filter(|event| event["impersonatedUser"]["username"] == "intruder").any(|event| {
        (&event["verb"], &event["objectRef"]["resource"], &event["responseStatus"]["code"])
            == (&"list".into(), &"secrets".into(), &403.into())
    });
    assert!(recorded, "{log}");
}

#[tokio::test]
async fn what_was_stored_survives_a_killed_api_server() {
    let mut control_plane = ControlPlane::start_with(BARE).await.unwrap();
    control_plane.kubectl(["create", "namespace", "kept"]).await.unwrap();
    control_plane.kill_apiserver().await.unwrap();
    assert!(control_plane.kubectl(["get", "namespaces"]).await.is_err());
    control_plane.restart_apiserver().await.unwrap();
    control_plane.kubectl(["get", "namespace", "kept"]).await.unwrap();
}

#[tokio::test]
async fn two_control_planes_share_nothing_and_leave_nothing_behind() {
    let (first, second) = tokio::try_join!(ControlPlane::start_with(BARE), ControlPlane::start_with(BARE)).unwrap();
    assert_ne!(first.url(), second.url());
    first.kubectl(["create", "namespace", "only-here"]).await.unwrap();
    assert!(second.kubectl(["get", "namespace", "only-here"]).await.is_err());

    let pids: Vec<Pid> = first.pids().into_iter().chain(second.pids()).collect();
    assert_eq!(pids.len(), 6);
    let folders = [&first, &second].map(|one| one.kubeconfig_path().parent().unwrap().to_owned());
    drop(first);
    second.stop().await.unwrap();
    assert!(pids.iter().all(|pid| !pid.is_running()));
    // Folders are removed in the background.
    for _ in 0..100 {
        if folders.iter().all(|folder| !folder.exists()) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("not removed: {folders:?}");
}

#[test]
fn up_keeps_a_control_plane_running_until_down() {
    let state = tempfile::tempdir().unwrap();
    let run = |action: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
        let output = command.arg(action).env("XDG_STATE_HOME", state.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let output = run("up");
    let (kubeconfig, path) = output.strip_prefix("export KUBECONFIG=").unwrap().split_once(' ').unwrap();
    let kubeconfig = PathBuf::from(kubeconfig);
    assert!(kubeconfig.is_file());
    let folders = path.trim().strip_prefix("PATH=\"$PATH:").unwrap().strip_suffix('"').unwrap();
    for (folder, program) in folders.split(':').zip(["kubectl", "helm"]) {
        assert!(Path::new(folder).join(program).is_file(), "{output}");
    }
    assert_eq!(run("up"), output);
    let running: Vec<String> = processes_below(state.path());
    assert_eq!(running.len(), 4, "{running:?}");
    run("down");
    assert_eq!(processes_below(state.path()), Vec::<String>::new());
    assert!(!kubeconfig.exists());
    run("down");
}

/// The command lines of the processes that run in this folder.
fn processes_below(folder: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let below = processes.filter(|process| {
        fs::read_link(process.path().join("cwd")).is_ok_and(|working_folder| working_folder.starts_with(folder))
    });
    below.map(|process| fs::read_to_string(process.path().join("cmdline")).unwrap_or_default()).collect()
}
