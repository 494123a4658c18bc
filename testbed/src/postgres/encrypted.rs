//! A Postgres that accepts TLS only.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use super::{Launch, Postgres, user};
use crate::{
    certificates::{Authority, Leaf},
    folder::Folder,
    process::Lifetime,
    tools,
};

/// The user `certified` needs a certificate, `ping` and all others a password. Everyone may use the Unix socket.
const HBA: &str = "local all all trust
hostssl all certified all cert
hostssl all all all scram-sha-256
";

impl Postgres {
    /// Starts a Postgres on a free port that rejects plaintext. `certificate` is its own; `clients` signs those of clients.
    pub async fn start_encrypted(certificate: &Leaf, clients: &Authority) -> anyhow::Result<Self> {
        let folder = Folder::create("postgres")?;
        let path = folder.path().to_owned();
        fs::write(path.join("pg_hba.conf"), HBA)?;
        fs::write(path.join("clients.crt"), clients.certificate())?;
        write(&path, certificate).await?;
        let file = |name: &str| path.join(name).to_string_lossy().into_owned();
        let (cert, key, ca, hba) = (file("tls.crt"), file("tls.key"), file("clients.crt"), file("pg_hba.conf"));
        let settings = [
            ("ssl", "on"),
            ("ssl_cert_file", &*cert),
            ("ssl_key_file", &key),
            ("ssl_ca_file", &ca),
            ("hba_file", &hba),
        ];
        Self::launch(Lifetime::Owned, folder, Launch { settings: &settings, ..Launch::default() }).await
    }

    /// Replaces its certificate. It takes effect for new connections after `SELECT pg_reload_conf()`.
    pub async fn replace_certificate(&self, certificate: &Leaf) -> anyhow::Result<()> {
        write(self.folder.path(), certificate).await
    }

    /// The URL of the superuser through the Unix socket, which needs no password.
    pub fn socket_url(&self) -> String {
        format!("postgres://postgres@localhost:{}/ping?host={}", self.port, self.folder.path().display())
    }
}

/// Postgres refuses a key that others may read.
async fn write(folder: &Path, certificate: &Leaf) -> anyhow::Result<()> {
    certificate.write(folder)?;
    let key: PathBuf = folder.join("tls.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    if let Some(user) = user() {
        tools::run(Command::new("chown").arg(format!("{user}:")).arg(key)).await?;
    }
    Ok(())
}
