//! The processor: reads records, drops what was counted, and flushes deltas into its projection, one at a time.

use std::{collections::BTreeMap, future::ready, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    CountError, CountSettings, LogPorts, Projection,
    audit::AuditOutcome,
    delta::{Delta, Taken},
    flush::{Flushing, result_of},
    watermark::LogWatermark,
};
use crate::CountMetrics;
use ping_core::{Offset, Partition, Positions};
use ping_ports::{ConsumerEvent, LogConsumer, LogError, Record, chain};

/// One member of the group of processors.
pub struct Processor<S, P> {
    pub(super) source: S,
    pub(super) projection: Arc<P>,
    pub(super) ports: LogPorts,
    pub(super) settings: CountSettings,
    pub(super) metrics: Arc<CountMetrics>,
    pub(super) assigned: Vec<Partition>,
}

/// Counting from one set of positions on, until they turn out not to be the projection's any more.
pub(super) struct Session<T> {
    /// What was read, flushed or not.
    pub(super) positions: Positions,
    /// What the projection has.
    pub(super) counted: BTreeMap<Partition, Offset>,
    pub(super) delta: Delta<T>,
    pub(super) first_record: Option<Instant>,
    pub(super) flushing: Option<Flushing>,
    /// Not before this time the next flush begins: who does not lead leaves half of the time to the others.
    pub(super) rest_until: Instant,
    pub(super) log_watermark: Option<LogWatermark>,
    pub(super) looking: BoxFuture<'static, Result<LogWatermark, CountError>>,
    pub(super) auditing: BoxFuture<'static, Result<AuditOutcome, CountError>>,
    pub(super) suspicions: u32,
}

/// Why a session ended.
enum End {
    /// The partitions changed.
    Reassigned(Vec<Partition>),
    /// The projection stands elsewhere, or could not be asked.
    Resume,
    /// The process is going down.
    Shutdown,
}

impl<S: LogConsumer, P: Projection> Processor<S, P> {
    /// A processor that makes `projection` of what it reads from `source`.
    pub fn new(source: S, projection: P, ports: LogPorts, settings: CountSettings, metrics: Arc<CountMetrics>) -> Self {
        Self { source, projection: Arc::new(projection), ports, settings, metrics, assigned: Vec::new() }
    }

    /// EventCounts until `shutdown`, then flushes what it holds and returns.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let end = match self.session(&shutdown).await {
                Ok(end) => end,
                Err(error) => {
                    self.metrics.errors.inc();
                    tracing::warn!(error = chain(&error), "counting interrupted; going on in a moment");
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => End::Shutdown,
                        () = sleep(self.settings.retry) => End::Resume,
                    }
                }
            };
            match end {
                End::Reassigned(partitions) => self.assigned = partitions,
                End::Resume => {}
                End::Shutdown => return,
            }
        }
    }

    async fn session(&mut self, shutdown: &CancellationToken) -> Result<End, CountError> {
        if self.assigned.is_empty() {
            return self.wait_for_partitions(shutdown).await;
        }
        let positions = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(End::Shutdown),
            positions = self.resume() => positions?,
        };
        self.source.start(&positions.offsets).await?;
        let counted = positions.offsets.clone();
        let mut session = Session {
            positions,
            counted,
            delta: Delta::default(),
            first_record: None,
            flushing: None,
            rest_until: Instant::now(),
            log_watermark: None,
            looking: self.look(Duration::ZERO),
            auditing: self.audit_later(),
            suspicions: 0,
        };
        self.count(&mut session, shutdown).await
    }

    async fn wait_for_partitions(&mut self, shutdown: &CancellationToken) -> Result<End, CountError> {
        let event = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(End::Shutdown),
            event = self.source.next() => event?,
        };
        Ok(match event {
            ConsumerEvent::Assigned(partitions) => End::Reassigned(partitions),
            ConsumerEvent::Revoked | ConsumerEvent::Records(_) => End::Resume,
        })
    }

    /// The positions to go on from: the projection's, or those of a rebuild when it has none or they are not in the log any more.
    async fn resume(&self) -> Result<Positions, CountError> {
        // Twice is enough unless other processors rebuild at the same time; then the pause between sessions helps.
        for _ in 0..3 {
            let positions = self.projection.positions().await?;
            if let Some(positions) = &positions {
                let bounds = self.ports.bounds.bounds().await?;
                let readable = |partition: &Partition| {
                    let next = positions.offsets.get(partition).copied().unwrap_or(0);
                    bounds.get(partition).is_some_and(|bounds| (bounds.low..=bounds.end).contains(&next))
                };
                if self.assigned.iter().all(readable) {
                    let ours =
                        |partition: &Partition| (*partition, positions.offsets.get(partition).copied().unwrap_or(0));
                    let offsets = self.assigned.iter().map(ours).collect();
                    return Ok(Positions { offsets, ..positions.clone() });
                }
                tracing::warn!(?bounds, offsets = ?positions.offsets, "positions are not in the log any more");
            }
            self.rebuild(positions.map(|positions| positions.generation)).await?;
        }
        Err(LogError(
            "the assigned partitions are not those of the topic, or somebody else rebuilds all the time".into(),
        )
        .into())
    }

    pub(super) async fn rebuild(&self, seen: Option<String>) -> Result<(), CountError> {
        if self.projection.rebuild(seen.as_ref()).await? {
            self.metrics.rebuilds.inc();
        }
        Ok(())
    }

    /// The loop. One flush is under way at a time; meanwhile the next delta grows, up to its limit.
    async fn count(&mut self, session: &mut Session<P::Sums>, shutdown: &CancellationToken) -> Result<End, CountError> {
        let mut draining = false;
        loop {
            let rested = P::PRIMARY || draining || Instant::now() >= session.rest_until;
            let idle = session.flushing.is_none() && rested;
            if draining && idle && session.delta.records() == 0 {
                return Ok(End::Shutdown);
            }
            // Who leads flushes as soon as it can, so what it holds is bounded by records; the others wait for a delta that is
            // worth a transaction, and records that change nothing there need no room.
            let load = if P::PRIMARY { session.delta.records() } else { session.delta.added() };
            let full = load >= self.settings.flush_records;
            let due = session.first_record.is_some_and(|first| first.elapsed() >= self.settings.flush_interval);
            if idle && (full || due || draining) {
                self.flush(session).await;
                continue;
            }
            let waiting = P::PRIMARY && session.delta.records() > 0;
            let flushable = idle && (waiting || self.reached(session).is_some());
            tokio::select! {
                biased;
                result = result_of(&mut session.flushing) => {
                    if !self.flushed(session, result?)? {
                        return Ok(End::Resume);
                    }
                }
                () = shutdown.cancelled(), if !draining => draining = true,
                event = self.source.next(), if !full && !draining => match event? {
                    ConsumerEvent::Records(records) => self.take(session, records),
                    ConsumerEvent::Assigned(partitions) => return Ok(End::Reassigned(partitions)),
                    ConsumerEvent::Revoked => return Ok(End::Reassigned(Vec::new())),
                },
                // Nothing more is waiting, or a promise can be made: what we have goes out now.
                () = ready(()), if flushable => self.flush(session).await,
                log_watermark = &mut session.looking => {
                    session.looking = self.look(self.settings.watermark_interval);
                    let log_watermark = log_watermark?;
                    self.metrics.lag_records.set(log_watermark.lag(&self.assigned, &session.counted));
                    // Not in place of one that is not reached yet: who is always behind would never reach any.
                    session.log_watermark.get_or_insert(log_watermark);
                }
                verdict = &mut session.auditing => {
                    session.auditing = self.audit_later();
                    if self.judge(session, verdict?).await? {
                        return Ok(End::Resume);
                    }
                }
                () = sleep_until(session.rest_until), if session.flushing.is_none() && !rested => {}
                () = sleep_until(session.first_record.unwrap_or_else(Instant::now) + self.settings.flush_interval),
                    if idle && session.first_record.is_some() => {}
            }
        }
    }

    fn take(&self, session: &mut Session<P::Sums>, records: Vec<Record>) {
        self.metrics.records.inc_by(records.len() as u64);
        let mut duplicates = 0;
        for record in records {
            match session.delta.take(record, &mut session.positions) {
                Taken::Duplicate => duplicates += 1,
                Taken::Dead => {
                    self.metrics.dead_letters.inc();
                }
                Taken::Counted | Taken::Skipped => {}
            }
        }
        self.metrics.duplicates.inc_by(duplicates);
        if session.first_record.is_none() && session.delta.records() > 0 {
            session.first_record = Some(Instant::now());
        }
    }

    fn look(&self, after: Duration) -> BoxFuture<'static, Result<LogWatermark, CountError>> {
        let ports = self.ports.clone();
        async move {
            sleep(after).await;
            LogWatermark::look(&ports).await
        }
        .boxed()
    }
}
