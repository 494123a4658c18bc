//! Every command of the README, and of the operator's page, is run here as it stands there: a command without a runner below fails the test, and so does a
//! runner without a command. `make` builds in the tree's own target folder, so what ran is what a reader gets.
#![cfg(test)]

use std::{
    collections::BTreeSet,
    fs,
    net::TcpStream,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

/// Whose commands are run.
const PAGES: [&str; 2] = ["README.md", "docs/operator/README.md"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn page(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The lines of the page's `sh` blocks, in order, and the commands in its tables.
fn commands(path: &str) -> Vec<String> {
    let readme = page(path);
    let mut commands = Vec::new();
    let mut in_shell = false;
    for line in readme.lines() {
        match line {
            "```sh" => in_shell = true,
            "```" => in_shell = false,
            _ if in_shell => commands.push(line.to_owned()),
            _ if line.starts_with("| ") => {
                commands.extend(
                    line.split('`').skip(1).step_by(2).filter(|code| code.starts_with("make ")).map(Into::into),
                );
            }
            _ => {}
        }
    }
    commands
}

/// A shell in the root of the tree, as after `git clone` and `cd`.
fn shell(line: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-euc", line]).current_dir(root()).stdin(Stdio::null());
    // A fresh clone builds where its README says, whatever the runner of this test does.
    command.env_remove("CARGO_TARGET_DIR");
    // What a developer has up stays up.
    command.env("XDG_STATE_HOME", std::env::temp_dir().join("ping-readme"));
    command
}

fn output(line: &str) -> String {
    let Output { status, stdout, stderr } = shell(line).output().unwrap();
    let said = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{line}\n{said}{}", String::from_utf8_lossy(&stderr));
    said
}

/// A command that runs until it is stopped. Its whole process group goes with it.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(line: &str) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = std::env::temp_dir().join(format!("ping-readme-{number}.log"));
        let said = fs::File::create(&log).unwrap();
        let mut command = shell(line);
        command.process_group(0).stdout(said.try_clone().unwrap()).stderr(said);
        Self { child: command.spawn().unwrap(), log }
    }

    fn wait_for(&mut self, port: u16) {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {log}");
            assert!(started.elapsed() < Duration::from_secs(1_500), "nothing listens on port {port}: {log}");
            sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", "--", &format!("-{}", self.child.id())]).status();
        let _ = self.child.wait();
    }
}

/// Until the count is there: a second is promised, a loaded machine gets ten.
fn eventually(line: &str, expected: &str) {
    let started = Instant::now();
    loop {
        let said = output(line);
        if said.contains(expected) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{line} says {said}, not {expected}");
        sleep(Duration::from_millis(50));
    }
}

const RUN: &str = "make run";
const PING: &str = r#"curl -X POST localhost:8080/ping.v1.PingService/Ping -H "Content-Type: application/json" -d '{"timestamp_ms": 1728926331000}'"#;
const COUNT: &str =
    r#"curl -X POST localhost:8080/ping.v1.PingService/PingCount -H "Content-Type: application/json" -d '{}'"#;
const CTL_PING: &str = "target/debug/pingctl ping";
const CTL_COUNT: &str = "target/debug/pingctl count --since 1h";
const CTL_VERIFY: &str = "target/debug/pingctl verify";
const PARTS_UP: &str = r#"eval "$(make -s parts-up)""#;
const MIGRATE: &str = "target/debug/pingd migrate --create-topics --replication 1";
const SERVER: &str = "target/debug/pingd server --listen 127.0.0.1:8080 --admin-listen 127.0.0.1:8081";
const PROCESSOR: &str = "target/debug/pingd processor --admin-listen 127.0.0.1:8082";
const PARTS_DOWN: &str = "make parts-down";
const HELM: &str = "helm install ping-operator charts/ping-operator --namespace ping-system --create-namespace";
const APPLY: &str = "kubectl apply -f examples/demo.yaml";
const WAIT: &str = "kubectl wait --for=condition=Ready pp/demo --timeout=15m";
const GET: &str = "kubectl get pp";
const CONTROL_PLANE_UP: &str = r#"eval "$(make -s control-plane-up)""#;
const OPERATOR: &str = r#"make operator-run ARGS="--server-address http://localhost:8080""#;
const OTHERS: &str = "make play-others";
const CONTROL_PLANE_DOWN: &str = "make control-plane-down";

/// Commands that run this very test, or what it would take too long to run again: their recipes are checked instead. The
/// simulation and the kill test are run by `make test`; the others load the machine for minutes.
const BY_RECIPE: [(&str, &str); 11] = [
    ("make test", "cargo test --workspace"),
    ("make check", "cargo clippy"),
    ("make simulate", "--test simulation"),
    ("make chaos", "--test chaos"),
    ("make oracle", "--test oracle"),
    ("make bench", "ping-bench"),
    ("make e2e", "--test e2e"),
    ("make e2e-short", "--test e2e"),
    ("make images", "images/build.sh"),
    ("make cluster-up", "cluster up"),
    ("make cluster-down", "cluster down"),
];

#[test]
fn every_command_of_the_readme_is_run() {
    let embedded = [RUN, PING, COUNT, CTL_PING, CTL_COUNT, CTL_VERIFY];
    let real_parts = [PARTS_UP, MIGRATE, SERVER, PROCESSOR, PARTS_DOWN];
    let kubernetes = [HELM, APPLY, WAIT, GET, CONTROL_PLANE_UP, OPERATOR, OTHERS, CONTROL_PLANE_DOWN];
    let by_recipe = BY_RECIPE.map(|(command, _)| command);
    let run = embedded.into_iter().chain(real_parts).chain(kubernetes);
    let known: BTreeSet<_> = run.chain(by_recipe).map(String::from).collect();
    let said: BTreeSet<_> = PAGES.into_iter().flat_map(commands).collect();
    assert_eq!(said, known);
}

#[test]
fn the_long_commands_do_what_they_say() {
    for (command, part) in BY_RECIPE {
        let recipe = output(&command.replace("make ", "make -n "));
        assert!(recipe.contains(part), "{command}: {recipe}");
    }
    assert!(fs::read_to_string(root().join(".ci/run")).unwrap().contains("make check test e2e-short"));
}

/// One after the other: both want port 8080.
#[test]
fn the_readme_is_true() {
    embedded();
    real_parts();
}

fn embedded() {
    // Where a reader would find pings of an earlier try, there must be none now.
    let _ = fs::remove_dir_all(root().join(".pingpipeline"));
    let mut serving = Running::start(RUN);
    serving.wait_for(8080);
    assert_eq!(output(PING), "{}");
    eventually(COUNT, r#""pingCount":"1""#);
    output(CTL_PING);
    eventually(CTL_COUNT, "1 ping");
    eventually(COUNT, r#""pingCount":"2""#);
    eventually(CTL_VERIFY, "2");
    kubernetes();
    drop(serving);
    let _ = fs::remove_dir_all(root().join(".pingpipeline"));
}

/// While `make run` serves: the total is its.
fn kubernetes() {
    assert!(page("README.md").contains(manifest(&page("examples/demo.yaml"))));
    let on_control_plane = |line: &str| format!("{CONTROL_PLANE_UP}; {line}");
    // What a run that failed left.
    output(CONTROL_PLANE_DOWN);
    output(&on_control_plane(HELM));
    let mut operator = Running::start(&on_control_plane(OPERATOR));
    let others = Running::start(&on_control_plane(OTHERS));
    operator.wait_for(8083);
    // Nobody types so fast that the new kind is not served yet.
    output(&on_control_plane(&format!("timeout 60 bash -c 'until {GET}; do sleep 0.2; done'")));
    output(&on_control_plane(APPLY));
    output(&on_control_plane(WAIT));
    for path in PAGES {
        let page = page(path);
        let table: Vec<_> =
            page.lines().filter(|line| line.starts_with("NAME ") || line.starts_with("demo ")).collect();
        let expected: Vec<_> = table.into_iter().flat_map(without_age).collect();
        assert!(!expected.is_empty(), "{path} shows no table");
        let started = Instant::now();
        loop {
            let said = output(&on_control_plane(GET));
            if said.lines().flat_map(without_age).eq(expected.iter().copied()) {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{path} shows {expected:?}, not {said}");
            sleep(Duration::from_millis(200));
        }
    }
    drop((operator, others));
    output(CONTROL_PLANE_DOWN);
}

/// Without the comments before it.
fn manifest(file: &str) -> &str {
    &file[file.find("apiVersion").unwrap()..]
}

/// The cells of a row of `kubectl get`, but for the last.
fn without_age(row: &str) -> Vec<&str> {
    let mut cells: Vec<_> = row.split_whitespace().collect();
    cells.pop();
    cells
}

fn real_parts() {
    let with_parts = |line: &str| format!("{PARTS_UP} 2>/dev/null; {line}");
    output(&with_parts(MIGRATE));
    let mut server = Running::start(&with_parts(SERVER));
    let mut processor = Running::start(&with_parts(PROCESSOR));
    server.wait_for(8080);
    processor.wait_for(8082);
    // The port is open before the schema is there: the first call may be told to retry.
    let ready = "until curl -sf localhost:8081/readyz && curl -sf localhost:8082/readyz; do sleep 0.2; done";
    output(&format!("timeout 60 bash -c '{ready}'"));
    for _ in 0..3 {
        assert_eq!(output(PING), "{}");
    }
    eventually(COUNT, r#""pingCount":"3""#);
    eventually(&with_parts(r#"redis-cli -u "$PING_CACHE_URL" HGETALL ping:counters"#), "minute:28815438\n3");
    output(CTL_VERIFY);
    drop((server, processor));
    output(PARTS_DOWN);
}
