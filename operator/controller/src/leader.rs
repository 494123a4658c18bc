//! Leader election: one replica is active and the others wait. A leader that loses its lease exits, so two never run at once.

use std::time::{Duration, Instant};

use kube::{Client, Config};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio_util::sync::CancellationToken;

use crate::error::chain;

/// Lease duration in seconds.
const LEASE_SECONDS: u64 = 15;
/// The lease is renewed this many seconds before it expires.
const GRACE_SECONDS: u64 = 9;
/// Delay between attempts while the API server does not respond.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Timeout of a request for the lease.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// A leader that cannot renew its lease for this long gives up. The first failure happens at most 8 seconds after the last
/// success, so the leader stops before its lease expires.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(4);

/// The lease that determines the leader.
pub struct Election(LeaseManager);

impl Election {
    /// Joins the election for the Lease `name` in `namespace`, as `identity`.
    ///
    /// # Errors
    /// If the Lease can be neither read nor created.
    pub async fn join(
        mut config: Config,
        namespace: &str,
        name: &str,
        identity: &str,
    ) -> Result<Self, LeaseManagerError> {
        config.connect_timeout = Some(REQUEST_TIMEOUT);
        config.read_timeout = Some(REQUEST_TIMEOUT);
        config.write_timeout = Some(REQUEST_TIMEOUT);
        let manager = LeaseManagerBuilder::new(Client::try_from(config)?, name)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(LEASE_SECONDS)
            .with_grace(GRACE_SECONDS)
            .build()
            .await?;
        Ok(Self(manager))
    }

    /// Returns true when this process becomes the leader, or false at `shutdown`.
    pub async fn win(&self, shutdown: &CancellationToken) -> bool {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return false,
                state = self.0.changed() => match state {
                    Ok(true) => return true,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "cannot acquire the lease");
                        tokio::time::sleep(RETRY_DELAY).await;
                    }
                },
            }
        }
    }

    /// Renews the lease until it is lost. At `shutdown`, releases it.
    pub async fn hold(&self, shutdown: &CancellationToken) {
        let mut failing_since = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => {
                    if let Err(error) = self.0.release().await {
                        tracing::warn!(error = chain(&error), "cannot release the lease");
                    }
                    return;
                }
                state = self.0.changed() => match state {
                    Ok(true) => failing_since = None,
                    Ok(false) => return,
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "cannot renew the lease");
                        let since: Instant = *failing_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= RENEWAL_TIMEOUT {
                            return;
                        }
                        tokio::time::sleep(RETRY_DELAY).await;
                    }
                },
            }
        }
    }
}
