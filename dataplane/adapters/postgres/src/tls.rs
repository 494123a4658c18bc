//! How connections are encrypted, and how the server proves who it is.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};

/// How far a connection is protected. Each mode is that of libpq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// No encryption. Passwords, events and answers are readable on the network.
    Disable,
    /// Encryption without verification: protects against listening, not against an impostor.
    Require,
    /// Encryption with a server whose certificate a trusted CA issued for the host name in the URL.
    VerifyFull,
}

/// A mode that is not offered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{mode:?} is not one of disable, require and verify-full{why}")]
pub struct UnknownSslMode {
    mode: String,
    why: &'static str,
}

/// Public CAs are always trusted besides the root certificate (sqlx 0.9), and without the host name anyone has a certificate of one.
const WHY_NOT_VERIFY_CA: &str =
    "; without the host name, a certificate that a public CA issued to anyone would pass. Use verify-full";
const WHY_NOT_PREFER: &str = "; it would send the password in plaintext if the server says so. Use verify-full";

impl FromStr for SslMode {
    type Err = UnknownSslMode;

    fn from_str(mode: &str) -> Result<Self, UnknownSslMode> {
        let why = match mode {
            "disable" => return Ok(Self::Disable),
            "require" => return Ok(Self::Require),
            "verify-full" => return Ok(Self::VerifyFull),
            "verify-ca" => WHY_NOT_VERIFY_CA,
            "prefer" | "allow" => WHY_NOT_PREFER,
            _ => "",
        };
        Err(UnknownSslMode { mode: mode.into(), why })
    }
}

/// TLS settings of all connections. The files are read again for each new connection, so replacing them needs no restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostgresTls {
    /// Takes precedence over `sslmode` in the URL. If neither is set: `VerifyFull` with a root certificate, otherwise TLS if the server
    /// offers it, and only on loopback or a Unix socket.
    pub mode: Option<SslMode>,
    /// PEM file with the CA certificates that are trusted besides the public CAs.
    pub root_cert: Option<PathBuf>,
    /// PEM files with the client's certificate chain and its key.
    pub client: Option<ClientCertificate>,
}

/// A certificate with which the client authenticates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM file with the certificate chain.
    pub cert: PathBuf,
    /// PEM file with the key.
    pub key: PathBuf,
}

/// TLS settings that contradict each other or would send data in plaintext.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsSettingsError {
    /// Plaintext to another machine was not requested.
    #[error(
        "the connection to Postgres at {0} would not be encrypted. Set --postgres-root-cert to the CA of its certificate, or \
         --postgres-sslmode=verify-full if a public CA issued it. To send everything in plaintext, the password included, set \
         --postgres-sslmode=disable"
    )]
    Plaintext(String),
    /// `sslmode` in the URL.
    #[error("sslmode in the URL of Postgres: {0}")]
    Url(UnknownSslMode),
    /// A root certificate that would not be used.
    #[error(
        "a root certificate has no effect with sslmode={0}, which does not verify the server. Set --postgres-sslmode=verify-full, or \
         remove --postgres-root-cert"
    )]
    UnusedRootCert(&'static str),
    /// A client certificate that would not be used.
    #[error(
        "a client certificate has no effect without TLS. Set --postgres-sslmode=verify-full, or remove --postgres-client-cert and \
         --postgres-client-key"
    )]
    UnusedClientCert,
}

impl PostgresTls {
    /// Applies these settings to `options`, which come from the URL.
    pub(super) fn apply(&self, mut options: PgConnectOptions) -> Result<PgConnectOptions, TlsSettingsError> {
        let has_root =
            self.root_cert.is_some() || options.to_url_lossy().query_pairs().any(|(key, _)| key == "sslrootcert");
        let mode = match self.mode {
            Some(mode) => Some(mode),
            None => mode_of(&options)?.or(has_root.then_some(SslMode::VerifyFull)),
        };
        match mode {
            Some(SslMode::Disable) if self.root_cert.is_some() => {
                return Err(TlsSettingsError::UnusedRootCert("disable"));
            }
            Some(SslMode::Require) if self.root_cert.is_some() => {
                return Err(TlsSettingsError::UnusedRootCert("require"));
            }
            Some(SslMode::Disable) if self.client.is_some() => return Err(TlsSettingsError::UnusedClientCert),
            None if !is_local(&options) => return Err(TlsSettingsError::Plaintext(options.get_host().into())),
            Some(SslMode::Disable) => options = options.ssl_mode(PgSslMode::Disable),
            Some(SslMode::Require) => options = options.ssl_mode(PgSslMode::Require),
            Some(SslMode::VerifyFull) => options = options.ssl_mode(PgSslMode::VerifyFull),
            None => {}
        }
        if let Some(root_cert) = &self.root_cert {
            options = options.ssl_root_cert(root_cert);
        }
        if let Some(ClientCertificate { cert, key }) = &self.client {
            options = options.ssl_client_cert(cert).ssl_client_key(key);
        }
        Ok(options)
    }

    /// The first file that cannot be read, with its path: the driver's error does not name it.
    pub(super) fn unreadable_file(&self) -> Option<String> {
        let client = self.client.iter().flat_map(|ClientCertificate { cert, key }| [cert, key]);
        self.root_cert.iter().chain(client).find_map(|path| unreadable(path))
    }
}

fn unreadable(path: &Path) -> Option<String> {
    let checked = match fs::metadata(path) {
        Ok(file) if file.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        Ok(_) => fs::File::open(path).map(|_| ()),
        Err(error) => Err(error),
    };
    checked.err().map(|error| format!("cannot read {}: {error}", path.display()))
}

/// The mode in the URL; `None` if it has none. sqlx does not tell `prefer` from its absence; both leave the choice to the server.
fn mode_of(options: &PgConnectOptions) -> Result<Option<SslMode>, TlsSettingsError> {
    let mode = match options.get_ssl_mode() {
        PgSslMode::Prefer => return Ok(None),
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    };
    mode.parse().map(Some).map_err(TlsSettingsError::Url)
}

/// True if the connection stays on this machine: a Unix socket or a loopback address.
fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str, tls: &PostgresTls) -> Result<String, TlsSettingsError> {
        let options = tls.apply(PgConnectOptions::from_str(url).unwrap())?;
        Ok(format!("{:?}", options.get_ssl_mode()))
    }

    fn with_mode(mode: SslMode) -> PostgresTls {
        PostgresTls { mode: Some(mode), ..PostgresTls::default() }
    }

    #[test]
    fn another_machine_is_never_contacted_in_plaintext_unless_the_settings_say_so() {
        let none = PostgresTls::default();
        for url in [
            "postgres://ping:s3cret@db.example/ping",
            "postgres://ping:s3cret@192.0.2.7/ping?sslmode=prefer",
            "postgres://ping@localhost.example/ping",
            "postgres:///ping?user=ping&host=127.0.0.1.example",
        ] {
            let error = mode(url, &none).unwrap_err();
            assert!(matches!(error, TlsSettingsError::Plaintext(_)), "{url}");
            let text = error.to_string();
            assert!(text.contains("--postgres-root-cert") && text.contains("--postgres-sslmode=disable"), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
        let disabled = mode("postgres://ping@db.example/ping?sslmode=disable", &none).unwrap();
        assert_eq!(disabled, "Disable");
        assert_eq!(mode("postgres://ping@db.example/ping", &with_mode(SslMode::Disable)).unwrap(), "Disable");
    }

    #[test]
    fn this_machine_needs_no_encryption() {
        for url in [
            "postgres://ping@127.0.0.1/ping",
            "postgres://ping@[::1]/ping",
            "postgres://ping@localhost/ping",
            "postgres:///ping?host=/run/postgresql",
        ] {
            assert_eq!(mode(url, &PostgresTls::default()).unwrap(), "Prefer", "{url}");
        }
    }

    #[test]
    fn a_root_certificate_implies_full_verification() {
        let root = PostgresTls { root_cert: Some("/etc/ping/ca.crt".into()), ..PostgresTls::default() };
        assert_eq!(mode("postgres://ping@db.example/ping", &root).unwrap(), "VerifyFull");
        assert_eq!(mode("postgres://ping@localhost/ping", &root).unwrap(), "VerifyFull");
        let in_url = "postgres://ping@db.example/ping?sslrootcert=/etc/ping/ca.crt";
        assert_eq!(mode(in_url, &PostgresTls::default()).unwrap(), "VerifyFull");
        for of_url in ["disable", "require"] {
            let url = format!("postgres://ping@db.example/ping?sslmode={of_url}");
            assert!(matches!(mode(&url, &root), Err(TlsSettingsError::UnusedRootCert(_))), "{of_url}");
        }
    }

    #[test]
    fn a_setting_takes_precedence_over_the_url() {
        let url = "postgres://ping@db.example/ping?sslmode=disable";
        assert_eq!(mode(url, &with_mode(SslMode::VerifyFull)).unwrap(), "VerifyFull");
        assert_eq!(
            mode("postgres://ping@db.example/ping?sslmode=require", &PostgresTls::default()).unwrap(),
            "Require"
        );
    }

    #[test]
    fn modes_that_only_look_safe_are_refused() {
        for (wanted, remedy) in [("verify-ca", "verify-full"), ("allow", "plaintext"), ("on", "disable, require")] {
            let error = wanted.parse::<SslMode>().unwrap_err().to_string();
            assert!(error.contains(remedy), "{error}");
        }
        let url = "postgres://ping@db.example/ping?sslmode=verify-ca";
        assert!(matches!(mode(url, &PostgresTls::default()), Err(TlsSettingsError::Url(_))));
    }

    #[test]
    fn a_client_certificate_without_tls_is_refused() {
        let client = ClientCertificate { cert: "tls.crt".into(), key: "tls.key".into() };
        let tls = PostgresTls { client: Some(client), ..with_mode(SslMode::Disable) };
        assert_eq!(mode("postgres://ping@localhost/ping", &tls), Err(TlsSettingsError::UnusedClientCert));
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let tls = PostgresTls { root_cert: Some("/no/such/ca.crt".into()), ..PostgresTls::default() };
        assert_eq!(
            tls.unreadable_file().unwrap(),
            "cannot read /no/such/ca.crt: No such file or directory (os error 2)"
        );
        assert_eq!(PostgresTls::default().unreadable_file(), None);
    }
}
