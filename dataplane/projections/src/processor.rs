//! The processor: a member of a consumer group that keeps one projection up to date, session after session.

use std::sync::Arc;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    context::Context,
    error::CountError,
    metrics::CountMetrics,
    projection::Projection,
    session::{Session, SessionEnd},
    settings::{CountSettings, LogPorts},
};
use ping_core::Partition;
use ping_ports::{ConsumerEvent, LogConsumer, RepeatedFailures, chain};

/// One member of the group of processors.
pub struct Processor<C, P> {
    consumer: C,
    context: Context<P>,
    assigned: Vec<Partition>,
    /// The last session met an event that the store does not have.
    check_records: bool,
    failures: RepeatedFailures,
}

impl<C: LogConsumer, P: Projection> Processor<C, P> {
    /// A processor that updates `projection` from what `consumer` reads.
    pub fn new(
        consumer: C,
        projection: P,
        ports: LogPorts,
        settings: CountSettings,
        metrics: Arc<CountMetrics>,
    ) -> Self {
        let context = Context { projection: Arc::new(projection), ports, settings, metrics };
        let failures = RepeatedFailures::default();
        Self { consumer, context, assigned: Vec::new(), check_records: false, failures }
    }

    /// Counts until `shutdown`, then flushes what was read and returns.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let session = self.session(&shutdown).await;
            self.check_records = session.as_ref().is_err_and(CountError::is_ahead_of_store);
            let end = match session {
                Ok(end) => end,
                Err(error) => {
                    self.context.metrics.errors.inc();
                    self.context.metrics.cache_full.set(i64::from(error.is_cache_full()));
                    let error = chain(&error);
                    if self.failures.should_report(&error, Instant::now().into_std()) {
                        tracing::warn!(error, "counting interrupted; retrying");
                    }
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => SessionEnd::Shutdown,
                        () = sleep(self.context.settings.retry) => SessionEnd::Resume,
                    }
                }
            };
            match end {
                SessionEnd::Reassigned(partitions) => self.assigned = partitions,
                SessionEnd::Resume => {}
                SessionEnd::Shutdown => return,
            }
        }
    }

    async fn session(&mut self, shutdown: &CancellationToken) -> Result<SessionEnd, CountError> {
        if self.assigned.is_empty() {
            self.context.metrics.cache_full.set(0);
            self.context.metrics.idle();
            return self.wait_for_partitions(shutdown).await;
        }
        self.context.metrics.assigned(self.context.ports.clock.now());
        let positions = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(SessionEnd::Shutdown),
            positions = self.context.resume(&self.assigned) => positions?,
        };
        self.consumer.start(&positions.offsets).await?;
        let (assigned, check_records) = (self.assigned.clone(), self.check_records);
        Session::new(&mut self.consumer, &self.context, assigned, positions, check_records).run(shutdown).await
    }

    async fn wait_for_partitions(&mut self, shutdown: &CancellationToken) -> Result<SessionEnd, CountError> {
        let event = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(SessionEnd::Shutdown),
            event = self.consumer.next() => event?,
        };
        Ok(match event {
            ConsumerEvent::Assigned(partitions) => SessionEnd::Reassigned(partitions),
            ConsumerEvent::Revoked | ConsumerEvent::Records(_) => SessionEnd::Resume,
        })
    }
}
