//! `pingd` processes under test: started on free ports, killed and restarted with the same arguments, stopped when dropped.

use std::{
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use ping_testbed::{Parts, ports::free_port};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

/// Longest wait, on two cores that also run other tests. `make bench` measures how long things really take.
pub const TIMEOUT: Duration = Duration::from_secs(180);

/// The timestamp in the README's examples.
pub const EXAMPLE: i64 = 1_728_926_331_000;

/// Fresh Postgres, Kafka and Redis with a server and a processor.
pub async fn pipeline() -> (Parts, Pingd, Pingd) {
    let parts = Parts::start().await.unwrap();
    Pingd::migrate(&parts).await;
    let (server, processor) = tokio::join!(Pingd::server(&parts), Pingd::processor(&parts, &[]));
    (parts, server, processor)
}

/// A `pingd` process.
pub struct Pingd {
    program: String,
    args: Vec<String>,
    env: Vec<(&'static str, String)>,
    child: Child,
    log: PathBuf,
    pub api: String,
    pub admin: String,
    http: reqwest::Client,
}

impl Pingd {
    /// Starts `pingd dev` with additional arguments.
    pub async fn dev(args: &[&str]) -> Self {
        let pingd = Self::start("dev", args, true, Vec::new());
        pingd.wait_ready().await;
        pingd
    }

    /// Starts `pingd dev` with TLS: `http` trusts its certificate.
    pub async fn dev_with_tls(args: &[&str], http: reqwest::Client) -> Self {
        let mut pingd = Self::start("dev", args, true, Vec::new());
        pingd.http = http;
        for address in [&mut pingd.api, &mut pingd.admin] {
            *address = address.replace("http://", "https://");
        }
        pingd.wait_ready().await;
        pingd
    }

    pub async fn server(parts: &Parts) -> Self {
        Self::server_with(parts, &[]).await
    }

    /// Starts `pingd server` with additional arguments.
    pub async fn server_with(parts: &Parts, args: &[&str]) -> Self {
        let pingd = Self::start("server", args, true, parts.env().to_vec());
        pingd.wait_ready().await;
        pingd
    }

    pub async fn processor(parts: &Parts, args: &[&str]) -> Self {
        let pingd = Self::start("processor", args, false, parts.env().to_vec());
        pingd.wait_ready().await;
        pingd
    }

    /// Starts `pingd server` or `pingd processor` with an environment that names the parts.
    pub async fn start_with_env(program: &str, env: Vec<(&'static str, String)>) -> Self {
        let pingd = Self::start(program, &[], program == "server", env);
        pingd.wait_ready().await;
        pingd
    }

    /// Runs `pingd migrate`; returns its output.
    pub async fn migrate(parts: &Parts) -> String {
        Self::migrate_with(parts, &[]).await
    }

    /// Runs `pingd migrate` with additional arguments; returns its output.
    pub async fn migrate_with(parts: &Parts, args: &[&str]) -> String {
        Self::run_migrate(&program(), parts, args).await
    }

    /// Runs `pingd migrate` of the build at `path`; returns its output.
    pub async fn migrate_build(path: &str, parts: &Parts) -> String {
        Self::run_migrate(path, parts, &[]).await
    }

    async fn run_migrate(path: &str, parts: &Parts, args: &[&str]) -> String {
        let output = Command::new(path)
            .args(["migrate", "--create-topics", "--replication", "1"])
            .args(args)
            .envs(parts.env())
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pingd migrate: {text}");
        text
    }

    /// Starts a program of the build at `path`.
    pub async fn start_build(path: &str, program: &str, env: Vec<(&'static str, String)>) -> Self {
        let pingd = Self::start_at(path, program, &[], program != "processor", env);
        pingd.wait_ready().await;
        pingd
    }

    fn start(name: &str, args: &[&str], api: bool, env: Vec<(&'static str, String)>) -> Self {
        Self::start_at(&program(), name, args, api, env)
    }

    fn start_at(path: &str, program: &str, args: &[&str], api: bool, env: Vec<(&'static str, String)>) -> Self {
        let (api_port, admin_port) = (free_port().unwrap(), free_port().unwrap());
        let mut all = vec![program.to_owned()];
        if api {
            all.extend(["--listen".into(), format!("127.0.0.1:{api_port}")]);
        }
        all.extend(["--admin-listen".into(), format!("127.0.0.1:{admin_port}")]);
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        let log = std::env::temp_dir().join(format!("pingd-{program}-{admin_port}.log"));
        // Of an earlier process on the same port.
        let _ = std::fs::remove_file(&log);
        let child = spawn(path, &all, &env, &log);
        Self {
            program: path.to_owned(),
            args: all,
            env,
            child,
            log,
            api: format!("http://127.0.0.1:{api_port}"),
            admin: format!("http://127.0.0.1:{admin_port}"),
            http: reqwest::Client::new(),
        }
    }

    pub async fn wait_ready(&self) {
        let started = Instant::now();
        loop {
            let answer = self.http.get(format!("{}/readyz", self.admin)).send().await;
            if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            if started.elapsed() > TIMEOUT {
                let report = match answer {
                    Ok(answer) => answer.text().await.unwrap_or_default(),
                    Err(error) => error.to_string(),
                };
                panic!("pingd {} is not ready: {report}\n{}", self.args[0], self.log_tail());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What `/readyz` says, a line per dependency.
    pub async fn readiness(&self) -> String {
        self.http.get(format!("{}/readyz", self.admin)).send().await.unwrap().text().await.unwrap()
    }

    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(30).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Everything that the process has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The most memory that the process has used, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// How much the peak has grown, in bytes, since it was `before`. The kernel rounds: its figure can fall a little.
    pub fn peak_growth(&self, before: u64) -> u64 {
        self.peak_memory().saturating_sub(before)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub async fn kill_9(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until it has ended; the signal that ended it.
    pub async fn ended(&mut self) -> Option<i32> {
        timeout(TIMEOUT, self.child.wait()).await.expect("it ends").unwrap().signal()
    }

    /// Starts it again with the same arguments.
    pub fn restart(&mut self) {
        self.child = spawn(&self.program, &self.args, &self.env, &self.log);
    }

    /// Lets it drain and exit, and starts the build at `path` in its place.
    pub async fn replace(&mut self, path: &str) {
        assert_eq!(self.terminate().await, Some(0), "it drains\n{}", self.log_tail());
        path.clone_into(&mut self.program);
        self.restart();
        self.wait_ready().await;
    }

    /// Sends SIGTERM; returns the exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = timeout(TIMEOUT, self.child.wait()).await.expect("it drains and exits").unwrap();
        status.code()
    }

    /// Calls a method of `PingService` by Connect JSON; returns HTTP status and body.
    pub async fn call(&self, method: &str, body: &Value) -> Result<(u16, Value), reqwest::Error> {
        self.ask(&format!("PingService/{method}"), body).await
    }

    /// Calls a method of any service, e.g. `EventService/Record`.
    pub async fn ask(&self, method: &str, body: &Value) -> Result<(u16, Value), reqwest::Error> {
        let url = format!("{}/ping.v1.{method}", self.api);
        let answer = self.http.post(url).json(body).timeout(Duration::from_secs(20)).send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.json().await.unwrap_or(Value::Null)))
    }

    /// Recounts every row; returns HTTP status and body.
    pub async fn verify(&self) -> (u16, Value) {
        self.administer("Verify", &json!({})).await
    }

    /// Calls a method of `AdminService`; returns HTTP status and body.
    pub async fn administer(&self, method: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}/ping.v1.AdminService/{method}", self.admin);
        let answer = self.http.post(url).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub async fn ping(&self, body: Value) {
        let (status, answer) = self.call("Ping", &body).await.unwrap();
        assert_eq!((status, answer), (200, json!({})), "{body}");
    }

    /// The count and the name of the store that answered.
    pub async fn count(&self, body: Value) -> (i64, String) {
        let (status, answer) = self.call("PingCount", &body).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        let count = answer["pingCount"].as_str().unwrap().parse().unwrap();
        (count, answer["store"].as_str().unwrap().to_owned())
    }

    /// Waits until the cache has counted `expected` events.
    pub async fn wait_for_count(&self, expected: i64) {
        let started = Instant::now();
        loop {
            let (count, store) = self.count(json!({})).await;
            if count == expected && store == "STORE_CACHE" {
                return;
            }
            assert!(started.elapsed() < TIMEOUT, "{count} from {store}, not {expected}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the cache was audited at or after `since`.
    pub async fn wait_for_audit(&self, since: i64) {
        let started = Instant::now();
        loop {
            let (_, answer) = self.call("PingCount", &json!({})).await.unwrap();
            let last: Option<i64> = answer["lastAuditMs"].as_str().map(|at| at.parse().unwrap());
            if last.is_some_and(|at| at >= since) {
                return;
            }
            assert!(started.elapsed() < TIMEOUT, "no audit since {since}: {answer}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends events one by one until one is counted within a second; returns the count. `count` must be counted already. Other tests
    /// share the two cores, so not every event is that fast.
    pub async fn counts_within_a_second(&self, mut count: i64) -> i64 {
        let mut waited = Vec::new();
        while waited.len() < 20 {
            self.ping(json!({"timestampMs": EXAMPLE})).await;
            count += 1;
            let started = Instant::now();
            self.wait_for_count(count).await;
            waited.push(started.elapsed());
            if started.elapsed() < Duration::from_secs(1) {
                return count;
            }
        }
        panic!("no event was counted within a second: {waited:?}");
    }

    /// All metrics, as text.
    pub async fn metrics(&self) -> String {
        self.http.get(format!("{}/metrics", self.admin)).send().await.unwrap().text().await.unwrap()
    }

    /// One metric's value.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        let line = text.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with(' '));
        let line = line.unwrap_or_else(|| panic!("no metric {name} in\n{text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

fn spawn(program: &str, args: &[String], env: &[(&'static str, String)], log: &PathBuf) -> Child {
    let output = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", program])
        .args(args)
        .envs(env.iter().map(|(name, value)| (*name, value)))
        .stdout(Stdio::from(output.try_clone().unwrap()))
        .stderr(Stdio::from(output))
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// `pingd` as built for tests, or the one that `$PINGD` names: `make chaos` attacks a release build.
pub fn program() -> String {
    std::env::var("PINGD").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pingd").to_owned())
}
