//! How to reach a server: options of the command line, and what a context has.

use std::{
    io,
    path::{self, PathBuf},
    time::Duration,
};

use clap::Args;
use ping_runtime::env;
use serde::{Deserialize, Serialize};

use crate::{address::Address, time};

/// How to reach a server and who calls. The options of the command line and the fields of a context are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[command(next_help_heading = "Connection options")]
pub(crate) struct Connection {
    /// Address of the server: http://host:port, https://host:port, or host:port. Default: that of the context, or
    /// http://localhost:8080.
    #[arg(short, long, env = env::CTL_ADDR, global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) addr: Option<Address>,
    /// Address of the server's admin port, for `verify`, `revoke` and `dead-letters`. Default: the host of --addr, port 8081.
    #[arg(long, value_name = "ADDRESS", env = env::CTL_ADMIN_ADDR, global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admin_addr: Option<Address>,
    /// PEM file with the CAs of the server's certificate, for https://. Default: those of the system.
    #[arg(long, value_name = "FILE", env = env::CTL_CA, global = true, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// Name that the server's certificate must cover, if it is not that of the address: behind a forwarded port, or at a pod's address.
    #[arg(long, value_name = "NAME", env = env::CTL_TLS_SERVER_NAME, global = true, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_server_name: Option<String>,
    /// PEM file with the client's certificate.
    #[arg(long, value_name = "FILE", env = env::CTL_CERT, global = true, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert: Option<PathBuf>,
    /// PEM file with the key of the client's certificate.
    #[arg(long, value_name = "FILE", env = env::CTL_KEY, global = true, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
    /// File with the bearer token. It is read again every ten seconds.
    #[arg(long, value_name = "FILE", env = env::CTL_TOKEN_FILE, global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// Command for `sh -c` that prints the bearer token, e.g. "kubectl create token reader". It runs again every minute.
    #[arg(long, value_name = "COMMAND", global = true, hide_short_help = true, conflicts_with = "token_file")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_command: Option<String>,
    /// Timeout of one call, e.g. 500ms or 1m. Default: 10s; 5m for `verify`, which reads every row.
    #[arg(long, value_name = "DURATION", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<Timeout>,
    /// How often to retry when the server is unavailable or the outcome is unknown. A retried event keeps its id, so it is
    /// never counted twice. Default: 4.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=100), global = true, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retries: Option<u32>,
}

impl Connection {
    /// These settings, and those of `other` for what they leave open. A token replaces a token, wherever it comes from; a certificate
    /// replaces a certificate with its key.
    #[must_use]
    pub(crate) fn or(self, other: &Self) -> Self {
        let has_token = self.token_file.is_some() || self.token_command.is_some();
        let has_certificate = self.cert.is_some() || self.key.is_some();
        let other = other.clone();
        let path = |of_other: Option<PathBuf>, replaced: bool| of_other.filter(|_| !replaced);
        Self {
            addr: self.addr.or(other.addr),
            admin_addr: self.admin_addr.or(other.admin_addr),
            ca: self.ca.or(other.ca),
            tls_server_name: self.tls_server_name.or(other.tls_server_name),
            cert: self.cert.or(path(other.cert, has_certificate)),
            key: self.key.or(path(other.key, has_certificate)),
            token_file: self.token_file.or(path(other.token_file, has_token)),
            token_command: self.token_command.or(other.token_command.filter(|_| !has_token)),
            timeout: self.timeout.or(other.timeout),
            retries: self.retries.or(other.retries),
        }
    }

    /// The same with absolute paths: a context is used in any folder.
    ///
    /// # Errors
    /// When the current folder cannot be determined.
    pub(crate) fn with_absolute_paths(self) -> io::Result<Self> {
        let absolute = |path: Option<PathBuf>| path.map(path::absolute).transpose();
        Ok(Self {
            ca: absolute(self.ca)?,
            cert: absolute(self.cert)?,
            key: absolute(self.key)?,
            token_file: absolute(self.token_file)?,
            ..self
        })
    }

    /// Where the token comes from, for people.
    pub(crate) fn describe_token(&self) -> String {
        match (&self.token_file, &self.token_command) {
            (Some(path), _) => format!("file {}", path.display()),
            (None, Some(command)) => format!("command {command}"),
            (None, None) => "none".to_owned(),
        }
    }
}

/// A timeout, as written and as a duration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Timeout {
    text: String,
    pub(crate) length: Duration,
}

impl TryFrom<String> for Timeout {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Ok(Self { length: time::parse_duration(&text)?, text })
    }
}

impl std::str::FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl From<Timeout> for String {
    fn from(timeout: Timeout) -> Self {
        timeout.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_comes_first_and_what_belongs_together_stays_together() {
        let context = Connection {
            addr: Some("https://a".parse().unwrap()),
            ca: Some("ca".into()),
            cert: Some("cert".into()),
            key: Some("key".into()),
            token_command: Some("print-token".into()),
            retries: Some(7),
            ..Connection::default()
        };
        assert_eq!(Connection::default().or(&context), context);
        let flags = Connection {
            token_file: Some("token".into()),
            cert: Some("mine".into()),
            retries: Some(0),
            ..Connection::default()
        };
        let expected = Connection {
            token_command: None,
            key: None,
            addr: context.addr.clone(),
            ca: context.ca.clone(),
            ..flags.clone()
        };
        assert_eq!(flags.or(&context), expected);
    }
}
