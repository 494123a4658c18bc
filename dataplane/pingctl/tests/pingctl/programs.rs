//! The built programs: `pingd-dev`, killed when dropped, and `pingctl`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use serde_json::Value;

/// A port without a listener.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Another package builds `pingd-dev`, into the same folder as `pingctl`.
fn pingd_dev() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_pingctl")).with_file_name("pingd-dev");
    assert!(program.exists(), "{} is missing; run `cargo build -p ping-embedded` first", program.display());
    program
}

/// `pingd-dev --memory` on free ports.
pub(crate) struct Server {
    process: Child,
    address: String,
    /// Port of the admin interface.
    admin_port: u16,
    /// Kept open, because a program that prints into a closed pipe ends.
    _stdout: BufReader<ChildStdout>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_at(0)
    }

    /// Starts the API on `port`; 0 is any free port.
    pub(crate) fn start_at(port: u16) -> Self {
        Self::start_with(port, &[])
    }

    /// Starts the API on `port` with additional arguments.
    pub(crate) fn start_with(port: u16, arguments: &[&str]) -> Self {
        let admin_port = free_port();
        let mut process = Command::new(pingd_dev())
            .args(["--memory", "--log", "warn", "--admin-listen", &format!("127.0.0.1:{admin_port}")])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut greeting = String::new();
        stdout.read_line(&mut greeting).unwrap();
        let address = greeting.strip_prefix("pingd is ready on ").and_then(|rest| rest.split(' ').next());
        let address = address.unwrap_or_else(|| panic!("{greeting}")).to_owned();
        Self { process, address, admin_port, _stdout: stdout }
    }

    /// Runs `pingctl` with these arguments against this server.
    pub(crate) fn ctl(&self, arguments: &str) -> Finished {
        pingctl(&format!("{arguments} --addr {}", self.address))
    }

    /// Runs `pingctl verify` with these arguments against this server.
    pub(crate) fn verify(&self, arguments: &str) -> Finished {
        self.ctl(&format!("verify {arguments} --admin-addr 127.0.0.1:{}", self.admin_port))
    }

    /// Posts a JSON body to a method like `SourceService/GetStatus` with `curl`, and returns the answer.
    pub(crate) fn curl(&self, method: &str, body: &str) -> Value {
        let url = format!("{}/ping.v1.{method}", self.address);
        let json = ["-H", "Content-Type: application/json", "-d", body];
        let output = Command::new("curl").args(["-sS", "--max-time", "20", &url]).args(json).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// Starts `pingctl` against this server, without waiting for its end.
    pub(crate) fn start_ctl(&self, arguments: &str) -> Running {
        Running::start(&format!("{arguments} --addr {}", self.address))
    }

    /// Sends the server a signal, e.g. "STOP".
    pub(crate) fn signal(&self, signal: &str) {
        send_signal(&self.process, signal);
    }

    /// The port of the admin interface.
    pub(crate) fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// The port of the API.
    pub(crate) fn port(&self) -> u16 {
        self.address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// Waits until the server has counted an event.
    pub(crate) fn wait_for_events(&self) {
        while self.count("--strong") == 0 {}
    }

    /// The count that `pingctl count` prints with these arguments.
    pub(crate) fn count(&self, arguments: &str) -> i64 {
        self.ctl(&format!("count --json {arguments}")).json(0)["pingCount"].as_str().unwrap().parse().unwrap()
    }
}

fn send_signal(process: &Child, signal: &str) {
    let sent = Command::new("kill").args(["-s", signal, &process.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Runs `pingctl` with these arguments until it ends.
pub(crate) fn pingctl(arguments: &str) -> Finished {
    Running::start(arguments).wait()
}

/// Runs `pingctl` with these arguments and this configuration until it ends; it reads `input`.
pub(crate) fn pingctl_with(arguments: &[&str], config: &Path, input: &str) -> Finished {
    let mut running = Running::start_with(arguments, config, Stdio::piped());
    let mut stdin = running.process.as_mut().unwrap().stdin.take().unwrap();
    // It may end without reading.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    running.wait()
}

/// A running `pingctl`, killed when dropped.
pub(crate) struct Running {
    arguments: String,
    process: Option<Child>,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Running {
    fn start(arguments: &str) -> Self {
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        Self::start_with(&arguments, Path::new("/nonexistent/config.yaml"), Stdio::null())
    }

    /// Starts `pingctl` with these arguments and this configuration.
    fn start_with(arguments: &[&str], config: &Path, stdin: Stdio) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pingctl"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PINGCTL_")) {
            command.env_remove(name);
        }
        command.args(arguments).env("PINGCTL_CONFIG", config);
        let command = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        Self { arguments: arguments.join(" "), process: Some(process), stdout }
    }

    /// Reads lines until one contains `text`.
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "it ended without printing {text}");
        }
        line
    }

    /// Sends the signal of Ctrl-C.
    pub(crate) fn interrupt(&self) {
        send_signal(self.process.as_ref().unwrap(), "INT");
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Finished {
        let mut stdout = Vec::new();
        self.stdout.read_to_end(&mut stdout).unwrap();
        let output = self.process.take().unwrap().wait_with_output().unwrap();
        Finished { arguments: self.arguments.clone(), output: Output { stdout, ..output } }
    }
}

/// A `pingctl` that has exited.
pub(crate) struct Finished {
    arguments: String,
    output: Output,
}

impl Finished {
    fn expect(&self, code: i32) {
        assert_eq!(self.output.status.code(), Some(code), "pingctl {}: {:?}", self.arguments, self.output);
    }

    /// Its output, after asserting that it exited with `code` and without an error message.
    pub(crate) fn text(&self, code: i32) -> String {
        self.expect(code);
        assert!(self.output.stderr.is_empty(), "{:?}", self.output);
        String::from_utf8(self.output.stdout.clone()).unwrap()
    }

    /// Its output as JSON.
    pub(crate) fn json(&self, code: i32) -> Value {
        serde_json::from_str(&self.text(code)).unwrap()
    }

    /// Its error message, after asserting that it exited with `code`.
    pub(crate) fn stderr_after_output(&self, code: i32) -> String {
        self.expect(code);
        String::from_utf8(self.output.stderr.clone()).unwrap()
    }

    /// Its error message, after asserting that it exited with `code` and without other output.
    pub(crate) fn stderr(&self, code: i32) -> String {
        assert!(self.output.stdout.is_empty(), "{:?}", self.output);
        self.stderr_after_output(code)
    }

    /// Its error message as JSON.
    pub(crate) fn error(&self, code: i32) -> Value {
        serde_json::from_str(&self.stderr(code)).unwrap()
    }
}
