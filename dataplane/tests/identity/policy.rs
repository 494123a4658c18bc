//! An access policy in a file, and calls with a token.

use std::{fs, path::PathBuf};

use ring::digest::{SHA256, digest};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with the policy.
pub struct PolicyFile {
    folder: TempDir,
}

impl PolicyFile {
    pub fn new(yaml: &str) -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap() };
        file.write(yaml);
        file
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("policy.yaml")
    }

    /// Replaces the policy.
    pub fn write(&self, yaml: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, yaml).unwrap();
        fs::rename(new, self.path()).unwrap();
    }
}

/// An entry of `tokens`.
pub fn token(name: &str, token: &str) -> String {
    let hex: String = digest(&SHA256, token.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{{name: {name}, sha256: {hex}}}")
}

/// Calls by Connect JSON; status and answer.
pub async fn call(url: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
    let mut request = reqwest::Client::new().post(url).json(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
}

/// The value of a metric, such as `ping_rpc_unauthenticated_total{reason="expired"}`.
pub fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}
