//! `AdminService`: served on the admin port.

use std::{sync::Arc, time::Duration};

use connectrpc::{ConnectError, ConnectRpcService, RequestContext, Response, ServiceRequest, ServiceResult};
use ping_identity::{Extent, Permission};
use ping_ports::DeadLetterReader;
use ping_proto::{
    AdminService, AdminServiceServer, DeadLettersRequest, DeadLettersResponse, RevokeStatusRequest,
    RevokeStatusResponse, VerifyRequest, VerifyResponse,
};
use ping_query::{CountQuery, Verification};
use tokio::sync::Semaphore;

use super::{access::Session, audit::Audited, dead_letters, errors, revocation::Revocations};

/// `AdminService` over the read path and the write path.
pub struct Admin {
    counts: Option<CountQuery>,
    revocations: Option<Revocations>,
    dead_letters: Option<Arc<dyn DeadLetterReader>>,
    /// One recount runs at a time: it reads every row.
    recount: Arc<Semaphore>,
    /// One page of dead letters is read at a time: it occupies a connection and memory.
    reading: Arc<Semaphore>,
}

impl Admin {
    /// `counts`: none if the server does not answer queries. `revocations` and `dead_letters`: none if it does not accept events.
    #[must_use]
    pub fn service(
        counts: Option<CountQuery>,
        revocations: Option<Revocations>,
        dead_letters: Option<Arc<dyn DeadLetterReader>>,
    ) -> ConnectRpcService<Audited<AdminServiceServer<Self>>> {
        let (recount, reading) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1)));
        let admin = Self { counts, revocations, dead_letters, recount, reading };
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

    async fn dead_letters(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, DeadLettersRequest>,
    ) -> ServiceResult<DeadLettersResponse> {
        // They show events, so it needs all sources and kinds.
        Session::of(&context)?.authorize(Permission::Admin, Extent::All, Extent::All)?;
        let query = dead_letters::query(request.reason, request.since_ms, request.page_size, request.page_token)?;
        let message = "this server does not accept events (--role query), so it does not use the log; list dead letters on a server with role \
                       ingest or all";
        let letters = self.dead_letters.clone().ok_or_else(|| ConnectError::failed_precondition(message))?;
        let Ok(running) = Arc::clone(&self.reading).try_acquire_owned() else {
            let message = "dead letters are being read for another caller of this server; retry";
            return Err(errors::exhausted(message, "DEAD_LETTERS_RUNNING", Duration::from_secs(1)));
        };
        // A task of its own: if the caller leaves, the log is still being read, and no second reading may start.
        let read = tokio::spawn(async move {
            let _running = running;
            letters.page(query).await
        });
        let page = read.await.map_err(|error| ConnectError::internal(format!("the reading failed: {error}")))?;
        Response::ok(dead_letters::response(page.map_err(|error| errors::log_unavailable(&error))?))
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
