use async_trait::async_trait;
use futures::poll;
use ping_core::Marks;
use ping_memory::{MemoryLog, MemoryStore, SystemClock};
use ping_ports::{Advance, Drift, TraceStep, Traces};
use prometheus_client::registry::Registry;
use tokio::{sync::Mutex, time::timeout};

use super::*;
use crate::{CountMetrics, CountSettings, counters::EventCounts};

/// A projection whose store has one connection for writing.
struct OneWriter(Arc<Mutex<()>>);

#[async_trait]
impl Projection for OneWriter {
    type Sums = EventCounts;
    const PRIMARY: bool = true;
    const STEP: TraceStep = TraceStep::FlushViews;

    async fn positions(&self) -> Result<Option<Positions>, CountError> {
        Ok(None)
    }

    async fn apply(&self, _: Advance, _: EventCounts) -> Result<Applied, CountError> {
        let _writer = self.0.lock().await;
        Ok(Applied::Done)
    }

    async fn rebuild(&self, _: Option<&Generation>) -> Result<bool, CountError> {
        let _writer = self.0.lock().await;
        Ok(true)
    }

    async fn maintain(&self) -> Result<(), CountError> {
        Ok(())
    }

    async fn audit(&self) -> Result<AuditOutcome, CountError> {
        Ok(AuditOutcome::Unknown)
    }

    async fn mark_suspect(&self, _: &Generation) -> Result<(), CountError> {
        let _writer = self.0.lock().await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_repair_does_not_wait_for_a_flush_that_it_interrupts() {
    let (store, log) = (Arc::new(MemoryStore::new(Arc::new(SystemClock))), Arc::new(MemoryLog::new(1)));
    let mut consumer = log.subscribe("views");
    let writer = Arc::new(Mutex::new(()));
    let context = Context {
        projection: Arc::new(OneWriter(Arc::clone(&writer))),
        ports: LogPorts {
            outbox: store.clone(),
            bounds: log.clone(),
            producer: log,
            incarnations: store,
            clock: Arc::new(SystemClock),
            traces: Traces::default(),
        },
        settings: CountSettings::default(),
        metrics: Arc::new(CountMetrics::of_views(&mut Registry::default())),
    };
    let positions = Positions { generation: "views".into(), offsets: [(0, 0)].into(), marks: Marks::default() };
    let mut session = Session::new(&mut consumer, &context, vec![0], positions, false);
    let mut flush = async move {
        let _writer = writer.lock().await;
        pending().await
    }
    .boxed();
    assert!(poll!(&mut flush).is_pending());
    session.flush = Some(flush);
    session.drifting_audits = DRIFTING_AUDITS - 1;
    let drift = AuditOutcome::Drift { generation: "views".into(), drift: Drift { events: 1, differences: Vec::new() } };
    let acted = timeout(Duration::from_secs(60), session.act_on(drift)).await;
    assert!(matches!(acted.expect("it waits for what nothing polls"), Ok(Some(SessionEnd::Resume))));
}
