//! Reads the files of TLS, and again when they change.

use std::path::PathBuf;

use anyhow::Context;
use ping_runtime::files;
use ping_transport::{Tls, TlsConfig, TlsMetrics, TlsPem};
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;

/// The files of TLS. In a Secret of cert-manager: `tls.crt`, `tls.key`, `ca.crt`.
pub(crate) struct TlsFiles {
    pub(crate) certificates: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_ca: Option<PathBuf>,
    /// Whether clients need a certificate.
    pub(crate) client_required: bool,
}

impl TlsFiles {
    /// Reads the files, and again when they change, as one of `tasks`.
    ///
    /// # Errors
    /// When they cannot be read or used. The message names them.
    pub(crate) async fn start(self, registry: &mut Registry, tasks: &mut JoinSet<()>) -> anyhow::Result<Tls> {
        let paths = [&self.certificates, &self.key].into_iter().chain(&self.client_ca).cloned().collect();
        let names = format!("{} and {}", self.certificates.display(), self.key.display());
        let (mut files, contents) = files::Watch::open(paths).await.map_err(anyhow::Error::msg)?;
        let client_required = self.client_required;
        let config = config_of(contents, client_required).with_context(|| format!("cannot use TLS with {names}"))?;
        let tls = Tls::new(config, TlsMetrics::register(registry));
        let current = tls.clone();
        tasks.spawn(async move {
            loop {
                let changed = files.changed().await.map_err(anyhow::Error::msg);
                match changed.and_then(|contents| config_of(contents, client_required)) {
                    Ok(config) => {
                        current.replace(config);
                        tracing::info!("the certificate has been replaced; new connections use it");
                    }
                    Err(error) => {
                        current.count_failed_reload();
                        let error = format!("{error:#}");
                        tracing::error!(error, "new files for TLS cannot be used; the old ones stay");
                    }
                }
            }
        });
        Ok(tls)
    }
}

fn config_of(contents: Vec<Vec<u8>>, client_required: bool) -> anyhow::Result<TlsConfig> {
    let mut contents = contents.into_iter();
    let mut next = || contents.next();
    let pem = TlsPem { certificates: next().unwrap_or_default(), key: next().unwrap_or_default(), client_ca: next() };
    Ok(TlsConfig::new(&pem, client_required)?)
}
