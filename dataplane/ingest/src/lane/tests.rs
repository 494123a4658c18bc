use async_trait::async_trait;
use ping_memory::{MemoryLog, MemoryStore, SystemClock};
use ping_ports::{EventStore, Traces};
use prometheus_client::registry::Registry;
use tokio::{task::JoinSet, time::timeout};
use uuid::Uuid;

use super::*;
use crate::Ingest;

const TIMEOUT: Duration = Duration::from_secs(1);
const ROUND_TRIP: Duration = Duration::from_millis(100);

/// Closes each writer before its first commit, as a store does whose round trip takes longer than a lease.
struct FencingStore(MemoryStore);

#[async_trait]
impl EventStore for FencingStore {
    async fn open_writer(&self, lease: Duration) -> Result<WriterId, StoreError> {
        self.0.open_writer(lease).await
    }

    async fn commit(&self, _: &Batch) -> Result<Committed, CommitError> {
        sleep(ROUND_TRIP).await;
        Err(CommitError::Fenced)
    }

    async fn renew(&self, writer: WriterId, last: Seq, lease: Duration) -> Result<bool, StoreError> {
        self.0.renew(writer, last, lease).await
    }

    async fn close_writer(&self, writer: WriterId) -> Result<Seq, StoreError> {
        self.0.close_writer(writer).await
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<Event>, StoreError> {
        self.0.find(ids).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_fenced_again_and_again_answers_within_the_timeout() {
    let clock = Arc::new(SystemClock);
    let ports = IngestPorts {
        store: Arc::new(FencingStore(MemoryStore::new(clock.clone()))),
        outbox: Arc::new(MemoryStore::new(clock)),
        producer: Arc::new(MemoryLog::new(1)),
        traces: Traces::default(),
    };
    let settings = IngestSettings { timeout: TIMEOUT, ..IngestSettings::default() };
    let metrics = Arc::new(IngestMetrics::register(&mut Registry::default()));
    let mut tasks = JoinSet::new();
    let ingest = Ingest::start(ports, settings, Arc::clone(&metrics), &mut tasks);
    let started = Instant::now();
    let event =
        Event { id: Uuid::from_u128(1), timestamp_ms: 1, timestamp_assumed: false, source: "".into(), kind: "".into() };
    let refusal = timeout(TIMEOUT * 5, ingest.submit(vec![event], None)).await.expect("no answer").unwrap_err();
    assert!(matches!(&refusal, Refusal::Unavailable(cause) if cause.contains("fenced")), "{refusal}");
    assert!(metrics.fenced.get() > 1, "it tries again under another writer");
    assert!((TIMEOUT..TIMEOUT + ROUND_TRIP * 2).contains(&started.elapsed()), "{:?}", started.elapsed());
}
