//! The service behind every protocol, and what it is assembled from.

use std::sync::Arc;

use connectrpc::ConnectError;
use tokio_util::sync::CancellationToken;

use crate::RpcMetrics;
use ping_ingest::{AcceptedIds, Ingest};
use ping_ports::{Clock, Traces};
use ping_query::{CountQuery, LiveQuery, SourceQuery, StatusQuery};
use ping_quota::QuotaLimiter;
use ping_runtime::admin::Readiness;

/// The read path, for servers that answer queries.
#[derive(Clone)]
pub struct Queries {
    /// Counts.
    pub counts: CountQuery,
    /// Statistics per source.
    pub sources: SourceQuery,
    /// Statuses of sources.
    pub statuses: StatusQuery,
    /// Labels of the statuses.
    pub labels: StatusLabels,
}

/// The labels that `GetStatus` returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusLabels {
    /// Label of the negative status.
    pub negative: String,
    /// Label of the positive status.
    pub positive: String,
    /// Label of the unknown status.
    pub unknown: String,
}

/// The read path, and the polls that all streams share.
struct ReadPath {
    queries: Queries,
    live: LiveQuery,
}

impl ReadPath {
    fn new(queries: Queries) -> Self {
        Self { live: LiveQuery::new(queries.counts.clone(), queries.sources.clone()), queries }
    }
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    ingest: Option<Ingest>,
    read: Option<Arc<ReadPath>>,
    pub(super) quotas: Option<QuotaLimiter>,
    pub(super) accepted_ids: Option<AcceptedIds>,
    /// The state of the database, if it is known.
    pub(super) database: Option<Readiness>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) traces: Traces,
    pub(super) metrics: Arc<RpcMetrics>,
    pub(super) shutdown: CancellationToken,
}

impl Api {
    /// The service over the write path, the read path, or both. At `shutdown`, streams stop reading, acknowledge what they have read,
    /// and end.
    #[must_use]
    pub fn new(
        ingest: Option<Ingest>,
        queries: Option<Queries>,
        clock: Arc<dyn Clock>,
        metrics: Arc<RpcMetrics>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            ingest,
            read: queries.map(ReadPath::new).map(Arc::new),
            quotas: None,
            accepted_ids: None,
            database: None,
            clock,
            traces: Traces::default(),
            metrics,
            shutdown,
        }
    }

    /// The same service, which admits events within the quotas of their callers.
    #[must_use]
    pub fn with_quotas(self, quotas: QuotaLimiter) -> Self {
        Self { quotas: Some(quotas), ..self }
    }

    /// The same service, which rejects ids of events that are no longer kept.
    #[must_use]
    pub fn with_accepted_ids(self, accepted_ids: AcceptedIds) -> Self {
        Self { accepted_ids: Some(accepted_ids), ..self }
    }

    /// The same service, which starts a span for each call.
    #[must_use]
    pub fn with_traces(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// The same service, which also says whether the database responds.
    #[must_use]
    pub fn with_database(self, readiness: Readiness) -> Self {
        Self { database: Some(readiness), ..self }
    }

    /// One service per lane of the write path; each connection uses one.
    pub(super) fn per_lane(&self) -> Vec<Self> {
        let Some(ingest) = &self.ingest else { return vec![self.clone()] };
        ingest.lane_handles().into_iter().map(|lane| Self { ingest: Some(lane), ..self.clone() }).collect()
    }

    pub(super) fn ingest(&self) -> Result<&Ingest, ConnectError> {
        let message =
            "this server only answers queries (--role query); send events to a server with role ingest or all";
        self.ingest.as_ref().ok_or_else(|| ConnectError::failed_precondition(message))
    }

    pub(super) fn queries(&self) -> Result<&Queries, ConnectError> {
        self.read().map(|read| &read.queries)
    }

    pub(super) fn live(&self) -> Result<&LiveQuery, ConnectError> {
        self.read().map(|read| &read.live)
    }

    fn read(&self) -> Result<&ReadPath, ConnectError> {
        let message = "this server only accepts events (--role ingest); query a server with role query or all";
        self.read.as_deref().ok_or_else(|| ConnectError::failed_precondition(message))
    }
}
