//! A headless Chromium, by the WebDriver protocol.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use ping_testbed::ports::free_port;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use crate::processes::TIMEOUT;

/// A browser with a profile of its own, and its driver. Both stop when dropped.
pub struct Browser {
    http: reqwest::Client,
    session: String,
    _driver: Child,
    _profile: TempDir,
}

impl Browser {
    /// Starts one. Every host name under `.localhost` is this machine.
    pub async fn start() -> Self {
        let (profile, port) = (tempfile::tempdir().unwrap(), free_port().unwrap());
        let driver = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "chromedriver", &format!("--port={port}"), "--log-level=WARNING"])
            // A browser that is killed leaves its files there.
            .env("TMPDIR", profile.path())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut browser = Self {
            http: reqwest::Client::new(),
            session: format!("http://127.0.0.1:{port}/session"),
            _driver: driver,
            _profile: profile,
        };
        browser.wait_for_driver(port).await;
        let data = format!("--user-data-dir={}", browser._profile.path().display());
        let args = [
            "--headless=new",
            // The sandbox needs another user than root, and a container needs more shared memory than it has.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--disable-background-networking",
            "--host-resolver-rules=MAP *.localhost 127.0.0.1",
            // The browser ends with its driver.
            "--remote-debugging-pipe",
            &data,
        ];
        let capabilities = json!({
            "browserName": "chrome",
            "goog:chromeOptions": {"args": args},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        });
        let session = browser.command(Method::POST, "", json!({"capabilities": {"alwaysMatch": capabilities}})).await;
        browser.session += &format!("/{}", session["sessionId"].as_str().unwrap());
        browser
    }

    async fn wait_for_driver(&self, port: u16) {
        let (started, status) = (Instant::now(), format!("http://127.0.0.1:{port}/status"));
        while self.http.get(&status).send().await.is_err() {
            assert!(
                started.elapsed() < TIMEOUT,
                "chromedriver does not start; install it with testbed/install.sh browser"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// A command of the protocol, and its result.
    async fn command(&self, method: Method, path: &str, body: Value) -> Value {
        let request = self.http.request(method, format!("{}{path}", self.session));
        let request = if body.is_null() { request } else { request.json(&body) };
        let mut answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert!(answer["value"]["error"].is_null(), "{path}: {answer}");
        answer["value"].take()
    }

    pub async fn open(&self, url: &str) {
        self.command(Method::POST, "/url", json!({"url": url})).await;
    }

    /// Opens a window and continues in it.
    pub async fn open_window(&self) {
        let window = self.command(Method::POST, "/window/new", json!({"type": "window"})).await;
        self.command(Method::POST, "/window", json!({"handle": window["handle"]})).await;
    }

    pub async fn windows(&self) -> Vec<Value> {
        self.command(Method::GET, "/window/handles", Value::Null).await.as_array().unwrap().clone()
    }

    pub async fn switch_to(&self, window: &Value) {
        self.command(Method::POST, "/window", json!({"handle": window})).await;
    }

    /// What a script returns.
    pub async fn run(&self, script: &str) -> Value {
        self.command(Method::POST, "/execute/sync", json!({"script": script, "args": []})).await
    }

    /// What a script passes to the callback `done`.
    pub async fn run_async(&self, script: &str) -> Value {
        let script = format!("const done = arguments[arguments.length - 1];\n{script}");
        self.command(Method::POST, "/execute/async", json!({"script": script, "args": []})).await
    }

    /// A command of Chromium's own protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command(Method::POST, "/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// What the browser has logged since the last call: `browser`, or `performance`.
    pub async fn log(&self, kind: &str) -> Vec<Value> {
        self.command(Method::POST, "/se/log", json!({"type": kind})).await.as_array().unwrap().clone()
    }

    /// Waits until the expression is true.
    pub async fn wait_for(&self, expression: &str) {
        let started = Instant::now();
        while self.run(&format!("return Boolean({expression})")).await != true {
            if started.elapsed() > TIMEOUT {
                let text = self.run("return document.title + '\\n' + document.body.innerText").await;
                panic!("never true: {expression}\n{}", text.as_str().unwrap_or_default());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sets the size of the window in CSS pixels, and the reader's theme.
    pub async fn look(&self, width: u32, height: u32, theme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": theme}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features})).await;
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Presses a key such as `Tab` or `Enter`.
    pub async fn press(&self, key: &str, code: u32, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.devtools("Input.dispatchKeyEvent", event).await;
        }
    }
}
