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
/// Failures that are further apart have a success in between. Without one, the next failure follows within 13 seconds: the retry delay, and two
/// requests that each reach the timeouts for connecting, writing and reading.
const LONGEST_GAP: Duration = Duration::from_secs(LEASE_SECONDS);

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
        let mut lapse = Lapse::default();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => {
                    if let Err(error) = self.0.release().await {
                        tracing::warn!(error = chain(&error), "cannot release the lease");
                    }
                    return;
                }
                state = self.0.changed() => match state {
                    Ok(true) => lapse = Lapse::default(),
                    Ok(false) => return,
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "cannot renew the lease");
                        if lapse.fail(Instant::now()) >= RENEWAL_TIMEOUT {
                            return;
                        }
                        tokio::time::sleep(RETRY_DELAY).await;
                    }
                },
            }
        }
    }
}

/// Failures to renew the lease without a success in between: the times of the first and the last one. The lease manager does not report a
/// success, so the time between failures tells.
#[derive(Debug, Default)]
struct Lapse(Option<(Instant, Instant)>);

impl Lapse {
    /// Records a failure at `now`. Returns for how long renewals have failed.
    fn fail(&mut self, now: Instant) -> Duration {
        let first = match self.0 {
            Some((first, last)) if now.duration_since(last) < LONGEST_GAP => first,
            Some(_) | None => now,
        };
        self.0 = Some((first, now));
        now.duration_since(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long renewals have failed at the last of these failures, each given by the seconds since the one before.
    fn failing_for(gaps: &[u64]) -> Duration {
        let (mut lapse, mut now) = (Lapse::default(), Instant::now());
        let mut failing = lapse.fail(now);
        for gap in gaps {
            now += Duration::from_secs(*gap);
            failing = lapse.fail(now);
        }
        failing
    }

    #[test]
    fn a_leader_gives_up_after_failures_in_a_row_and_not_after_failures_days_apart() {
        assert!(failing_for(&[1, 1, 1]) < RENEWAL_TIMEOUT);
        assert!(failing_for(&[3, 3]) >= RENEWAL_TIMEOUT);
        assert!(failing_for(&[13]) >= RENEWAL_TIMEOUT, "requests that reach their timeouts");
        assert!(failing_for(&[2 * 86_400]) < RENEWAL_TIMEOUT, "the lease was renewed in between");
        assert!(failing_for(&[3, 60, 3]) < RENEWAL_TIMEOUT, "a second lapse begins with its own first failure");
    }
}
