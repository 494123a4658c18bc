//! Where the cache is, and how a connection is protected.

use std::{path::PathBuf, time::Duration};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError};

/// Where the cache is. Files are read again for each new connection, so replacing them needs no restart.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://host:port`, or `rediss://…` for TLS with a verified certificate and host name.
    pub url: String,
    /// The user name. It takes precedence over one in the URL. `None` is the default user.
    pub username: Option<String>,
    /// The password. It takes precedence over one in the URL.
    pub password: Option<String>,
    /// File with the password; a line break at its end is ignored. It takes precedence over `password`.
    pub password_file: Option<PathBuf>,
    /// PEM file with the CA certificates that are trusted. `None` trusts those of the system.
    pub ca_file: Option<PathBuf>,
    /// The certificate with which the client authenticates.
    pub client: Option<ClientCertificate>,
    /// How long a command may take.
    pub response_timeout: Duration,
}

/// A certificate with which the client authenticates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM file with the certificate chain.
    pub cert: PathBuf,
    /// PEM file with the key.
    pub key: PathBuf,
}

/// Settings that are not valid.
#[derive(Debug, thiserror::Error)]
pub enum RedisSettingsError {
    /// The URL cannot be parsed.
    #[error("the URL of the cache is not valid: {0}; write redis://host:port or rediss://host:port")]
    Url(RedisError),
    /// `#insecure` in the URL.
    #[error(
        "the URL of the cache ends with #insecure, which accepts a certificate of anyone. Remove it, and set --cache-ca-file to the CA of \
         the cache's certificate"
    )]
    Insecure,
    /// Certificates without TLS.
    #[error(
        "--cache-ca-file and --cache-cert-file have no effect, because the URL of the cache starts with redis://. Use rediss://, or \
         remove them"
    )]
    UnusedCertificates,
}

impl RedisSettings {
    /// Without a password, and with a time-out of 2 s.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            username: None,
            password: None,
            password_file: None,
            ca_file: None,
            client: None,
            response_timeout: Duration::from_secs(2),
        }
    }

    /// The parsed URL, with the user name and the password of these settings.
    pub(super) fn connection_info(&self) -> Result<ConnectionInfo, RedisSettingsError> {
        let info = self.url.as_str().into_connection_info().map_err(RedisSettingsError::Url)?;
        match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => return Err(RedisSettingsError::Insecure),
            ConnectionAddr::TcpTls { .. } => {}
            _ if self.ca_file.is_some() || self.client.is_some() => return Err(RedisSettingsError::UnusedCertificates),
            _ => {}
        }
        let mut login = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(username) = &self.username {
            login = login.set_username(username);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password);
        }
        Ok(info.set_redis_settings(login))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_would_not_protect_are_refused() {
        let refused = |settings: &RedisSettings| settings.connection_info().unwrap_err().to_string();
        assert!(refused(&RedisSettings::new("http://cache")).contains("rediss://host:port"));
        assert!(refused(&RedisSettings::new("rediss://cache:6379/#insecure")).contains("--cache-ca-file"));
        let with_ca = RedisSettings { ca_file: Some("ca.crt".into()), ..RedisSettings::new("redis://cache:6379") };
        assert!(refused(&with_ca).contains("Use rediss://"));
    }
}
