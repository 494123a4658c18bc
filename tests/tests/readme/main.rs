//! Runs every command of the README, of the operator's page and of the tutorials exactly as written. A documented command that this test does not
//! run fails it, and so does a command that is not documented. `make` builds in the repository's own target folder, as it does
//! for a reader.
#![cfg(test)]

mod tutorial;

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

/// The pages whose commands are run in the repository's root. Tutorials without a cluster have a module of their own.
const PAGES: [&str; 3] = ["README.md", "docs/operator/README.md", "docs/tutorials/cluster.md"];
/// Those that show the output of `kubectl get`.
const PAGES_WITH_TABLE: [&str; 2] = ["README.md", "docs/operator/README.md"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn page(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The page's commands.
fn commands(path: &str) -> Vec<String> {
    ping_tests::page::commands(&page(path))
}

/// A shell with the environment that earlier commands have set.
struct Shell {
    variables: Vec<(String, String)>,
    folder: PathBuf,
}

impl Default for Shell {
    /// A shell in the repository's root, as after `git clone` and `cd`.
    fn default() -> Self {
        Self { variables: Vec::new(), folder: root() }
    }
}

impl Shell {
    /// The shell after a command such as `eval "$(…)"`, which sets `variable` among others.
    fn after(line: &str, variable: &str) -> Self {
        let dump = Self::default().output(&format!("{line}; env --null"));
        let variables = dump.split('\0').filter_map(|entry| entry.split_once('='));
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let shell = Self { variables, ..Self::default() };
        assert!(shell.variables.iter().any(|(name, _)| name == variable), "{line} does not set {variable}");
        shell
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-euc", line]).current_dir(&self.folder).stdin(Stdio::null());
        command.envs(self.variables.iter().cloned());
        // Builds in the default target folder, whichever one runs this test.
        command.env_remove("CARGO_TARGET_DIR");
        // What Cargo tells this test of its package: some build scripts read it, and would run again, now and in the next build.
        let of_the_test = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        for (name, _) in std::env::vars().filter(|(name, _)| of_the_test.iter().any(|start| name.starts_with(start))) {
            command.env_remove(name);
        }
        // Leaves alone what a developer has running.
        command.env("XDG_STATE_HOME", std::env::temp_dir().join("ping-readme"));
        command
    }

    fn output(&self, line: &str) -> String {
        let Output { status, stdout, stderr } = self.command(line).output().unwrap();
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        assert!(status.success(), "{line}\n{stdout}{}", String::from_utf8_lossy(&stderr));
        stdout
    }

    /// Runs a command until its output contains `expected`. A count is promised within a second; a busy machine gets a minute.
    fn eventually(&self, line: &str, expected: &str) {
        let started = Instant::now();
        loop {
            let stdout = self.output(line);
            if stdout.contains(expected) {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{line} prints {stdout}, not {expected}");
            sleep(Duration::from_millis(50));
        }
    }

    fn start(&self, line: &str) -> Running {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = std::env::temp_dir().join(format!("ping-readme-{number}.log"));
        let log_file = fs::File::create(&log).unwrap();
        let mut command = self.command(line);
        command.process_group(0).stdout(log_file.try_clone().unwrap()).stderr(log_file);
        Running { child: command.spawn().unwrap(), log }
    }
}

/// A command that runs until it is stopped, together with its process group.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn wait_for(&mut self, port: u16) {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            assert!(self.child.try_wait().unwrap().is_none(), "the command exited: {log}");
            assert!(started.elapsed() < Duration::from_secs(1_500), "nothing listens on port {port}: {log}");
            sleep(Duration::from_millis(100));
        }
    }
}

impl Running {
    fn kill_9(&mut self) {
        let group = format!("-{}", self.child.id());
        assert!(Command::new("kill").args(["-KILL", "--", &group]).status().unwrap().success());
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", "--", &format!("-{}", self.child.id())]).status();
        let _ = self.child.wait();
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
const HELM: &str = "helm install ping-operator charts/ping-operator --namespace ping-system --create-namespace --set 'watchNamespaces={default}'";
const APPLY: &str = "kubectl apply -f examples/demo.yaml";
const WAIT: &str = "kubectl wait --for=condition=Ready pp/demo --timeout=15m";
const GET: &str = "kubectl get pp";
const CONTROL_PLANE_UP: &str = r#"eval "$(make -s control-plane-up)""#;
const OPERATOR: &str = r#"make operator-run ARGS="--server-address http://localhost:8080""#;
const FAKE_OPERATORS: &str = "make fake-operators";
const CONTROL_PLANE_DOWN: &str = "make control-plane-down";

/// Commands whose recipes are checked instead, because they would run this test or take too long. `make test` runs the
/// simulation and the kill test anyway; the rest take minutes.
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
    let kubernetes = [HELM, APPLY, WAIT, GET, CONTROL_PLANE_UP, OPERATOR, FAKE_OPERATORS, CONTROL_PLANE_DOWN];
    let by_recipe = BY_RECIPE.map(|(command, _)| command);
    let run = embedded.into_iter().chain(real_parts).chain(kubernetes);
    let known: BTreeSet<_> = run.chain(by_recipe).map(String::from).collect();
    let documented: BTreeSet<_> = PAGES.into_iter().flat_map(commands).collect();
    assert_eq!(documented, known);
}

#[test]
fn the_long_commands_do_what_they_say() {
    for (command, part) in BY_RECIPE {
        // CI sets a wrapper that lints what it builds; a user does not.
        let recipe = Shell::default().output(&command.replace("make ", "env -u RUSTC_WORKSPACE_WRAPPER make -n "));
        assert!(recipe.contains(part), "{command}: {recipe}");
    }
    assert!(fs::read_to_string(root().join(".ci/run")).unwrap().contains("make check test e2e-short"));
}

/// One after the other because all use port 8080.
#[test]
fn the_readme_is_true() {
    embedded();
    tutorial::all();
    real_parts();
}

fn embedded() {
    // Removes the events of an earlier run.
    let _ = fs::remove_dir_all(root().join(".pingpipeline"));
    let shell = Shell::default();
    let mut serving = shell.start(RUN);
    serving.wait_for(8080);
    assert_eq!(shell.output(PING), "{}");
    shell.eventually(COUNT, r#""pingCount":"1""#);
    shell.output(CTL_PING);
    shell.eventually(CTL_COUNT, "1 event");
    shell.eventually(COUNT, r#""pingCount":"2""#);
    shell.eventually(CTL_VERIFY, "2");
    kubernetes();
    drop(serving);
    let _ = fs::remove_dir_all(root().join(".pingpipeline"));
}

/// Runs while `make run` serves, because the total is read from that server.
fn kubernetes() {
    assert!(page("README.md").contains(manifest(&page("examples/demo.yaml"))));
    // Removes the remains of a failed run.
    Shell::default().output(CONTROL_PLANE_DOWN);
    let shell = Shell::after(CONTROL_PLANE_UP, "KUBECONFIG");
    shell.output(HELM);
    let mut operator = shell.start(OPERATOR);
    let fake_operators = shell.start(FAKE_OPERATORS);
    operator.wait_for(8083);
    // Waits until the new kind is served. A reader does not type fast enough to have to.
    shell.output(&format!("timeout 60 bash -c 'until {GET}; do sleep 0.2; done'"));
    shell.output(APPLY);
    shell.output(WAIT);
    for path in PAGES_WITH_TABLE {
        let page = page(path);
        let table: Vec<_> =
            page.lines().filter(|line| line.starts_with("NAME ") || line.starts_with("demo ")).collect();
        let expected: Vec<_> = table.into_iter().flat_map(without_age).collect();
        assert!(!expected.is_empty(), "{path} shows no table");
        let started = Instant::now();
        loop {
            let stdout = shell.output(GET);
            if stdout.lines().flat_map(without_age).eq(expected.iter().copied()) {
                break;
            }
            let expected = expected.join(" ");
            assert!(started.elapsed() < Duration::from_secs(60), "{path} shows {expected}, not\n{stdout}");
            sleep(Duration::from_millis(200));
        }
    }
    drop((operator, fake_operators));
    shell.output(CONTROL_PLANE_DOWN);
}

/// The manifest without its leading comments.
fn manifest(file: &str) -> &str {
    &file[file.find("apiVersion").unwrap()..]
}

/// The cells of a row of `kubectl get`, except the last one.
fn without_age(row: &str) -> Vec<&str> {
    let mut cells: Vec<_> = row.split_whitespace().collect();
    cells.pop();
    cells
}

fn real_parts() {
    let shell = Shell::after(PARTS_UP, "PING_KAFKA_BROKERS");
    shell.output(MIGRATE);
    let mut server = shell.start(SERVER);
    let mut processor = shell.start(PROCESSOR);
    server.wait_for(8080);
    processor.wait_for(8082);
    // The port opens before the schema is ready, so a first call could be rejected.
    let ready = "until curl -sf localhost:8081/readyz && curl -sf localhost:8082/readyz; do sleep 0.2; done";
    shell.output(&format!("timeout 60 bash -c '{ready}'"));
    for _ in 0..3 {
        assert_eq!(shell.output(PING), "{}");
    }
    shell.eventually(COUNT, r#""pingCount":"3""#);
    shell.eventually(r#"redis-cli -u "$PING_CACHE_URL" HGETALL ping:counters"#, "minute:28815438\n3");
    shell.output(CTL_VERIFY);
    drop((server, processor));
    shell.output(PARTS_DOWN);
}
