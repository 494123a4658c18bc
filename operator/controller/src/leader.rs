//! Leader election: one replica is active and the others wait. A leader that loses its lease exits, so two never run at once.
//!
//! Clocks may be wrong or jump: each replica measures with its monotonic clock how long it has seen the lease unchanged. Times in the lease
//! are for people.

mod step;

use std::time::Duration;

use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use ping_api::names::OPERATOR;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use self::step::{Observed, Step, step};
use crate::error::chain;

/// A lease ends when it has not changed for this long.
const LEASE: Duration = Duration::from_secs(15);
/// A leader that cannot renew its lease for this long gives up, before another replica may lead.
const GIVE_UP: Duration = Duration::from_secs(12);
/// Delay between renewals.
const RENEWAL: Duration = Duration::from_secs(5);
/// Delay between attempts to become the leader, and between those to renew the lease after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// Timeout of connecting to the API server, of reading and of writing, each.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// The lease that determines the leader.
pub struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
    observed: Option<Observed>,
}

impl Election {
    /// Takes part in the election for the Lease `name` in `namespace`, as `identity`.
    ///
    /// # Errors
    /// If the client configuration is invalid.
    pub fn join(mut config: Config, namespace: &str, name: &str, identity: &str) -> kube::Result<Self> {
        config.connect_timeout = Some(REQUEST_TIMEOUT);
        config.read_timeout = Some(REQUEST_TIMEOUT);
        config.write_timeout = Some(REQUEST_TIMEOUT);
        let leases = Api::namespaced(Client::try_from(config)?, namespace);
        Ok(Self { leases, name: name.to_owned(), identity: identity.to_owned(), observed: None })
    }

    /// Returns true when this process becomes the leader, or false at `shutdown`.
    pub async fn win(&mut self, shutdown: &CancellationToken) -> bool {
        loop {
            match self.acquire().await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => tracing::warn!(error = chain(&error), "cannot acquire the lease"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return false,
                () = sleep(RETRY) => {}
            }
        }
    }

    /// Renews the lease until it is lost.
    pub async fn hold(&mut self) {
        let (mut delay, mut until) = (RENEWAL, Instant::now() + GIVE_UP);
        loop {
            sleep(delay).await;
            let began = Instant::now();
            match timeout_at(until, self.acquire()).await {
                Ok(Ok(true)) => (delay, until) = (RENEWAL, began + GIVE_UP),
                Ok(Err(error)) => {
                    tracing::warn!(error = chain(&error), "cannot renew the lease");
                    delay = RETRY;
                }
                Ok(Ok(false)) | Err(_) => return,
            }
        }
    }

    /// Ends the lease if this process holds it, so that another replica need not wait until it expires.
    ///
    /// # Errors
    /// If the API server does not answer, or the lease was lost meanwhile.
    pub async fn release(self) -> kube::Result<()> {
        let Some(lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
        if step(Some(&lease), &self.identity, Duration::ZERO) != Step::Renew {
            return Ok(());
        }
        let none =
            json!({ "holderIdentity": null, "leaseDurationSeconds": null, "acquireTime": null, "renewTime": null });
        self.patch(&lease, none).await
    }

    /// Takes the lease if no other replica holds it, and renews it if this process does. Returns whether it holds the lease then.
    async fn acquire(&mut self) -> kube::Result<bool> {
        loop {
            let lease = self.leases.get_opt(&self.name).await?;
            let unchanged_for = Observed::update(&mut self.observed, lease.as_ref(), Instant::now());
            let now = MicroTime(Timestamp::now());
            let spec = match step(lease.as_ref(), &self.identity, unchanged_for) {
                Step::Wait => return Ok(false),
                Step::Renew => json!({ "renewTime": now }),
                Step::Take { transitions } => json!({
                    "holderIdentity": self.identity, "leaseDurationSeconds": LEASE.as_secs(), "acquireTime": now, "renewTime": now,
                    "leaseTransitions": transitions,
                }),
            };
            let written = match lease {
                Some(lease) => self.patch(&lease, spec).await,
                None => self.create(spec).await,
            };
            match written {
                Ok(()) => return Ok(true),
                // Someone else wrote in between: what they wrote decides.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn create(&self, spec: Value) -> kube::Result<()> {
        let spec = serde_json::from_value(spec).map_err(kube::Error::SerdeError)?;
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(spec) };
        let params = PostParams { field_manager: Some(OPERATOR.into()), ..PostParams::default() };
        self.leases.create(&params, &lease).await.map(drop)
    }

    /// Changes the lease, unless it has changed since it was read.
    async fn patch(&self, read: &Lease, spec: Value) -> kube::Result<()> {
        let patch = json!({ "metadata": { "resourceVersion": read.metadata.resource_version }, "spec": spec });
        let params = PatchParams { field_manager: Some(OPERATOR.into()), ..PatchParams::default() };
        self.leases.patch(&self.name, &params, &Patch::Merge(&patch)).await.map(drop)
    }
}
