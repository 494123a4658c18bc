//! Takes back negative statuses.

use std::sync::Arc;

use connectrpc::ConnectError;
use ping_core::{Event, Millis, Revocation};
use ping_identity::{Extent, Permission};
use ping_ingest::{Refusal, WeakIngest};
use ping_ports::Clock;
use ping_query::{AsOf, RevocationQuery};
use uuid::Uuid;

use super::{access::Session, errors};

/// Longest reason, in bytes.
const MAX_REASON_BYTES: usize = 255;

/// Finds out what to revoke, and records it.
pub struct Revocations {
    /// What to revoke.
    pub query: RevocationQuery,
    /// Records it.
    pub ingest: WeakIngest,
    /// The time of a revocation.
    pub clock: Arc<dyn Clock>,
}

/// A revocation that is durable.
pub(super) struct Recorded {
    pub(super) revocation: Revocation,
    pub(super) event_id: Uuid,
    /// The watermark of the counts that it follows from.
    pub(super) as_of: Millis,
}

impl Revocations {
    /// Revokes the negative status of `source`. The caller needs the permission `admin` for the source and the negative kind.
    ///
    /// # Errors
    /// When the caller may not, the status is not negative, or the revocation is not acknowledged.
    pub(super) async fn revoke(&self, source: &str, reason: &str, session: &Session) -> Result<Recorded, ConnectError> {
        let kind = name(self.query.negative_kind());
        session.authorize(Permission::Admin, Extent::One(source), Extent::One(kind))?;
        if reason.len() > MAX_REASON_BYTES || reason.chars().any(char::is_control) {
            let message = format!(
                "reason must be at most {MAX_REASON_BYTES} bytes without control characters; it has {} bytes",
                reason.len()
            );
            return Err(errors::invalid_field("reason", message));
        }
        let found = self.query.of(source).await.map_err(|error| errors::source(&error))?;
        let AsOf { value: revocation, as_of, .. } = found;
        let revocation = revocation.ok_or_else(errors::not_negative)?;
        let event_id = ping_ingest::new_event_id();
        let event = Event::revoking(&revocation, source, event_id, self.clock.now());
        let recorded = match self.ingest.upgrade() {
            Some(ingest) => ingest.submit(vec![event], None).await,
            None => Err(Refusal::ShuttingDown),
        };
        recorded.map_err(|refusal| errors::revocation_refused(&refusal))?;
        let events = revocation.events;
        tracing::info!(target: "audit", caller = session.name(), source, kind, events, %event_id, reason, "status revoked");
        Ok(Recorded { revocation, event_id, as_of })
    }
}

/// A kind as callers know it.
fn name(kind: &str) -> &str {
    if kind.is_empty() { "ping" } else { kind }
}
