//! Leader election: one of several operators works, the others wait. Who loses the lease ends, so that no two ever work.

use std::time::{Duration, Instant};

use kube::{Client, Config};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio_util::sync::CancellationToken;

use crate::error::chain;

/// A lease holds this long without being renewed, in seconds.
const LEASE_SECONDS: u64 = 15;
/// It is renewed this long before it runs out, in seconds.
const GRACE_SECONDS: u64 = 9;
/// Between attempts while the API server does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// A request about the lease that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Who cannot renew the lease for this long gives up. The first attempt fails at most 8 seconds after the last success, so this
/// is over before the lease is.
const GIVE_UP: Duration = Duration::from_secs(4);

/// The lease that decides who leads.
pub struct Election(LeaseManager);

impl Election {
    /// Takes part in the election over the Lease `name` in `namespace`, as `identity`.
    ///
    /// # Errors
    /// When the Lease can neither be read nor made.
    pub async fn join(
        mut config: Config,
        namespace: &str,
        name: &str,
        identity: &str,
    ) -> Result<Self, LeaseManagerError> {
        config.connect_timeout = Some(TIMEOUT);
        config.read_timeout = Some(TIMEOUT);
        config.write_timeout = Some(TIMEOUT);
        let manager = LeaseManagerBuilder::new(Client::try_from(config)?, name)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(LEASE_SECONDS)
            .with_grace(GRACE_SECONDS)
            .build()
            .await?;
        Ok(Self(manager))
    }

    /// Returns when this process leads, or at `shutdown` (then false).
    pub async fn win(&self, shutdown: &CancellationToken) -> bool {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return false,
                state = self.0.changed() => match state {
                    Ok(true) => return true,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "cannot take part in the election");
                        tokio::time::sleep(RETRY).await;
                    }
                },
            }
        }
    }

    /// Renews the lease until it is lost, or until `shutdown`; then it is given back.
    pub async fn hold(&self, shutdown: &CancellationToken) {
        let mut failing_since = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => {
                    if let Err(error) = self.0.release().await {
                        tracing::warn!(error = chain(&error), "cannot give the lease back");
                    }
                    return;
                }
                state = self.0.changed() => match state {
                    Ok(true) => failing_since = None,
                    Ok(false) => return,
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "cannot renew the lease");
                        let since: Instant = *failing_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= GIVE_UP {
                            return;
                        }
                        tokio::time::sleep(RETRY).await;
                    }
                },
            }
        }
    }
}
