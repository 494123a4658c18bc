//! The built programs: `pingd dev`, killed when dropped, and `pingctl`.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use serde_json::Value;

/// A port nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// `pingd dev --memory` on ports of its own.
pub(crate) struct Server {
    process: Child,
    address: String,
    /// Kept open: a program that prints into a closed pipe ends.
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
        Self::start_at(free_port())
    }

    pub(crate) fn start_at(port: u16) -> Self {
        let address = format!("127.0.0.1:{port}");
        let mut process = Command::new(env!("CARGO_BIN_EXE_pingd"))
            .args(["dev", "--memory", "--log", "warn", "--listen", &address])
            .args(["--admin-listen", &format!("127.0.0.1:{}", free_port())])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut greeting = String::new();
        stdout.read_line(&mut greeting).unwrap();
        assert!(greeting.starts_with("pingd is ready"), "{greeting}");
        Self { process, address, _stdout: stdout }
    }

    /// `pingctl` with these words, asking this server.
    pub(crate) fn ctl(&self, words: &str) -> Ended {
        pingctl(&format!("{words} --addr {}", self.address))
    }

    /// The count for these words.
    pub(crate) fn count(&self, words: &str) -> i64 {
        self.ctl(&format!("count --json {words}")).json(0)["ping_count"].as_i64().unwrap()
    }
}

/// Runs `pingctl` with these words until it ends.
pub(crate) fn pingctl(words: &str) -> Ended {
    let output = command(words).output().unwrap();
    Ended { words: words.to_owned(), output }
}

/// `pingctl` with these words.
pub(crate) fn command(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pingctl"));
    command.args(words.split_whitespace()).env_remove("PINGCTL_ADDR").stdin(Stdio::null());
    command
}

/// A `pingctl` that ended.
pub(crate) struct Ended {
    words: String,
    output: Output,
}

impl Ended {
    fn expect(&self, code: i32) {
        assert_eq!(self.output.status.code(), Some(code), "pingctl {}: {:?}", self.words, self.output);
    }

    /// What it printed, when it ended with `code`.
    pub(crate) fn text(&self, code: i32) -> String {
        self.expect(code);
        assert!(self.output.stderr.is_empty(), "{:?}", self.output);
        String::from_utf8(self.output.stdout.clone()).unwrap()
    }

    /// The same as an object.
    pub(crate) fn json(&self, code: i32) -> Value {
        serde_json::from_str(&self.text(code)).unwrap()
    }

    /// What it complained about, when it ended with `code` and printed nothing else.
    pub(crate) fn stderr(&self, code: i32) -> String {
        self.expect(code);
        assert!(self.output.stdout.is_empty(), "{:?}", self.output);
        String::from_utf8(self.output.stderr.clone()).unwrap()
    }

    /// The same as an object.
    pub(crate) fn error(&self, code: i32) -> Value {
        serde_json::from_str(&self.stderr(code)).unwrap()
    }
}
