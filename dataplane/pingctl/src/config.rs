//! The user's configuration: named contexts, of which one is the current one.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{self, Path, PathBuf},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::{connection::Connection, failure::Failure, private};

/// Longest name of a context, in bytes.
const MAX_NAME_BYTES: usize = 63;

/// What the file has.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Config {
    /// The context that is used if no other is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    pub(crate) contexts: BTreeMap<String, Connection>,
}

/// The configuration and its file.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    pub(crate) config: Config,
}

impl ConfigFile {
    /// The file at `path`, or the user's; `None` if there is no folder for it.
    pub(crate) fn locate(path: Option<&Path>) -> Option<PathBuf> {
        // Absolute, because a context has the path of its token.
        path.map_or_else(default_path, |path| path::absolute(path).ok())
    }

    /// Reads the file at `path`, or the user's. One that does not exist has no contexts.
    ///
    /// # Errors
    /// When it cannot be read, is invalid, or others may change it: they could have tokens sent elsewhere, or commands run.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = Self::locate(path) else {
            return Err(Failure::usage(
                "there is no folder for the configuration",
                "set HOME or XDG_CONFIG_HOME, or name a file with --config or PINGCTL_CONFIG",
            ));
        };
        let shown = path.display();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, config: Config::default() });
            }
            Err(error) => {
                let what = format!("cannot read the configuration {shown}: {error}");
                return Err(Failure::usage(
                    what,
                    "make it readable, or name another file with --config or PINGCTL_CONFIG",
                ));
            }
        };
        if private::others_may(&path, 0o2).unwrap_or(true) {
            return Err(Failure::usage(
                format!("others may change the configuration {shown}, and with it where your tokens are sent"),
                format!("check its content, then run: chmod go-w {shown}"),
            ));
        }
        let config = yaml_serde::from_str::<Option<Config>>(&text).map_err(|error| {
            Failure::usage(
                format!("the configuration {shown} is invalid: {error}"),
                "correct the file, or delete it and log in again",
            )
        })?;
        Ok(Self { path, config: config.unwrap_or_default() })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let text = yaml_serde::to_string(&self.config).context("the configuration cannot be written as YAML")?;
        private::write(&self.path, &text).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// The context `name`.
    ///
    /// # Errors
    /// When there is none. The message has the names of all.
    pub(crate) fn context(&self, name: &str) -> Result<&Connection, Failure> {
        self.config.contexts.get(name).ok_or_else(|| {
            let names: Vec<_> = self.config.contexts.keys().map(String::as_str).collect();
            let known =
                if names.is_empty() { "there are none".to_owned() } else { format!("there are {}", names.join(", ")) };
            Failure::usage(
                format!("there is no context \"{name}\" in {}; {known}", self.path.display()),
                format!("name one of them, or create it: pingctl login {name} --addr https://HOST:PORT"),
            )
        })
    }

    /// The name of the current context.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn current(&self) -> Result<&str, Failure> {
        self.config.current.as_deref().ok_or_else(|| {
            let what = format!("no context in {} is the current one", self.path.display());
            Failure::usage(what, "name a context, or choose one: pingctl context use NAME")
        })
    }

    /// The file of the token that `pingctl login` stores for the context `name`.
    pub(crate) fn token_path(&self, name: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new(".")).join("tokens").join(name)
    }
}

/// Checks the name of a new context, which is also the name of a file.
///
/// # Errors
/// When it has other characters, or is too long.
pub(crate) fn check_name(name: &str) -> Result<(), Failure> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.bytes().all(valid) && (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.starts_with(['.', '-']) {
        return Ok(());
    }
    Err(Failure::usage(
        format!("\"{name}\" cannot be the name of a context"),
        format!("use up to {MAX_NAME_BYTES} letters, digits, \"-\", \".\" and \"_\", and begin with a letter or digit"),
    ))
}

fn default_path() -> Option<PathBuf> {
    let folder = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let home = || env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let folder = folder.or_else(|| home().map(|home| home.join(".config")))?;
    Some(folder.join("pingctl").join("config.yaml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_survive_in_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pingctl/config.yaml");
        let mut file = ConfigFile::open(Some(&path)).unwrap();
        assert_eq!(file.config, Config::default());
        let connection = Connection {
            addr: Some("https://ping.example:1".parse().unwrap()),
            token_file: Some("/a token".into()),
            timeout: Some("1m".parse().unwrap()),
            retries: Some(0),
            ..Connection::default()
        };
        file.config.contexts.insert("prod".into(), connection.clone());
        file.config.current = Some("prod".into());
        file.save().unwrap();
        let read = ConfigFile::open(Some(&path)).unwrap();
        assert_eq!((&read.config, read.context("prod").is_ok()), (&file.config, true));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("addr: https://ping.example:1") && !text.contains("tlsServerName"), "{text}");
        let missing = file.context("test").unwrap_err().to_string();
        assert!(missing.contains("there are prod"), "{missing}");
    }

    #[test]
    fn a_name_is_one_file_name() {
        for name in ["prod", "ping.example", "A_1-b"] {
            check_name(name).unwrap();
        }
        for name in ["", ".", "..", ".hidden", "-o", "a/b", "a b", "ä", &"x".repeat(64)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
