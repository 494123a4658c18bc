//! `AdminService`: served on the admin port.

use std::{sync::Arc, time::Duration};

use connectrpc::{ConnectError, ConnectRpcService, RequestContext, Response, ServiceRequest, ServiceResult};
use ping_identity::{Extent, Permission};
use ping_proto::{
    AdminService, AdminServiceServer, RevokeStatusRequest, RevokeStatusResponse, VerifyRequest, VerifyResponse,
};
use ping_query::{CountQuery, Verification};
use tokio::sync::Semaphore;

use super::{access::Session, audit::Audited, errors, revocation::Revocations};

/// `AdminService` over the read path and the write path.
pub struct Admin {
    counts: Option<CountQuery>,
    revocations: Option<Revocations>,
    /// One recount runs at a time: it reads every row.
    recount: Arc<Semaphore>,
}

impl Admin {
    /// `counts`: none if the server does not answer queries. `revocations`: none if it does not accept events.
    #[must_use]
    pub fn service(
        counts: Option<CountQuery>,
        revocations: Option<Revocations>,
    ) -> ConnectRpcService<Audited<AdminServiceServer<Self>>> {
        let admin = Self { counts, revocations, recount: Arc::new(Semaphore::new(1)) };
        ConnectRpcService::new(Audited(AdminServiceServer::new(admin)))
    }
}

impl AdminService for Admin {
    async fn verify(
        &self,
        context: RequestContext,
        _: ServiceRequest<'_, VerifyRequest>,
    ) -> ServiceResult<VerifyResponse> {
        // It shows totals, so it needs all sources and kinds.
        Session::of(&context)?.authorize(Permission::Admin, Extent::All, Extent::All)?;
        let message = "this server does not answer queries (--role ingest); verify on a server with role query or all";
        let counts = self.counts.clone().ok_or_else(|| ConnectError::failed_precondition(message))?;
        let Ok(running) = Arc::clone(&self.recount).try_acquire_owned() else {
            let message = "a recount is running on this server; retry when it has ended";
            return Err(errors::exhausted(message, "RECOUNT_RUNNING", Duration::from_secs(10)));
        };
        // A task of its own: if the caller leaves, the database may still be counting, and no second recount may start.
        let verified = tokio::spawn(async move {
            let _running = running;
            counts.verify().await
        });
        let found = verified.await.map_err(|error| ConnectError::internal(format!("the recount failed: {error}")))?;
        response(found.map_err(|error| errors::unavailable(&error))?)
    }

    async fn revoke_status(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, RevokeStatusRequest>,
    ) -> ServiceResult<RevokeStatusResponse> {
        let session = Session::of(&context)?;
        let message = "this server does not accept events (--role query); revoke on a server with role ingest or all";
        let revocations = self.revocations.as_ref().ok_or_else(|| ConnectError::failed_precondition(message))?;
        let recorded = revocations.revoke(request.source, request.reason, session).await?;
        Response::ok(RevokeStatusResponse {
            revoked_events: recorded.revocation.events,
            event_id: recorded.event_id.to_string(),
            as_of_ms: recorded.as_of,
        })
    }
}

fn response(found: Verification) -> ServiceResult<VerifyResponse> {
    Response::ok(VerifyResponse {
        exact: found.differences.is_empty(),
        rows: found.recount.rows,
        total: found.recount.total,
        minutes_total: found.recount.minutes_total,
        days_total: found.recount.days_total,
        cache_total: found.cache_total,
        minutes_compared: errors::wire_count(found.minutes_compared)?,
        differences: found.differences,
        dropped: found.recount.dropped.count,
        recountable_from_ms: found.recount.dropped.until,
    })
}
