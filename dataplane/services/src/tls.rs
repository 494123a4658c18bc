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
    /// Whether clients of the API need a certificate.
    pub(crate) client_required: bool,
}

impl TlsFiles {
    /// Reads the files, and again when they change, as one of `tasks`. Returns the configurations of the API and of the admin port.
    ///
    /// # Errors
    /// When they cannot be read or used. The message names them.
    pub(crate) async fn start(self, registry: &mut Registry, tasks: &mut JoinSet<()>) -> anyhow::Result<(Tls, Tls)> {
        let paths = [&self.certificates, &self.key].into_iter().chain(&self.client_ca).cloned().collect();
        let names = format!("{} and {}", self.certificates.display(), self.key.display());
        let (mut files, contents) = files::Watch::open(paths).await.map_err(anyhow::Error::msg)?;
        let client_required = self.client_required;
        let [api, admin] =
            configs(&contents, client_required).with_context(|| format!("cannot use TLS with {names}"))?;
        let metrics = TlsMetrics::register(registry);
        let (api, admin) = (Tls::new(api, metrics.clone()), Tls::new(admin, metrics));
        let current = (api.clone(), admin.clone());
        tasks.spawn(async move {
            loop {
                let changed = files.changed().await.map_err(anyhow::Error::msg);
                match changed.and_then(|contents| configs(&contents, client_required)) {
                    Ok([api, admin]) => {
                        current.0.replace(api);
                        current.1.replace(admin);
                        tracing::info!("the certificate has been replaced; new connections use it");
                    }
                    Err(error) => {
                        current.0.count_failed_reload();
                        let error = format!("{error:#}");
                        tracing::error!(error, "new files for TLS cannot be used; the old ones stay");
                    }
                }
            }
        });
        Ok((api, admin))
    }
}

/// The configurations of the API and of the admin port, which kubelet probes without a certificate.
fn configs(contents: &[Vec<u8>], client_required: bool) -> anyhow::Result<[TlsConfig; 2]> {
    let mut contents = contents.iter().cloned();
    let mut next = || contents.next();
    let pem = TlsPem { certificates: next().unwrap_or_default(), key: next().unwrap_or_default(), client_ca: next() };
    Ok([TlsConfig::new(&pem, client_required)?, TlsConfig::new(&pem, false)?])
}
