//! Recounts: `AdminService.Verify` on the admin port of a server. The port is not part of the Service, so the request goes to a pod.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ping_api::{crd::PingPipeline, names::Names, roles::query_role};
use ping_proto::{VerifyRequest, VerifyResponse};

use crate::{caller::Caller, cluster::Cluster};

/// Longest time for a recount, which reads every row.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Asks servers that answer queries to recount every row.
pub(crate) struct Recounter {
    caller: Caller,
    component: String,
}

impl Recounter {
    /// Connects to the servers of `pipeline`.
    ///
    /// # Errors
    /// See [`Caller::connect`].
    pub(crate) async fn connect(cluster: &Cluster, pipeline: &PingPipeline) -> anyhow::Result<Self> {
        let role = query_role(&pipeline.spec.server);
        let caller = Caller::connect(cluster, pipeline, role, "admin", TIMEOUT).await?;
        Ok(Self { caller, component: Names::of(pipeline).part(role.component()) })
    }

    /// Recounts once.
    ///
    /// # Errors
    /// If no server is ready, or it does not answer.
    pub(crate) async fn recount(&self) -> anyhow::Result<VerifyResponse> {
        ensure!(self.caller.is_ready().await?, "no pod of {} is ready; see `kubectl get pods`", self.component);
        let response = self.caller.call("ping.v1.AdminService/Verify", &VerifyRequest::default()).await;
        response.context("no server recounted")
    }
}
