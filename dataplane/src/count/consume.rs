//! The processor: reads records, drops what was counted, and flushes deltas into the cache, one at a time.

use std::{
    collections::BTreeMap,
    future::{pending, ready},
    mem,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    CountError, CountPorts, CountSettings,
    audit::{Verdict, audit},
    delta::{Delta, Taken},
    frontier::Horizon,
    rebuild::rebuild,
};
use crate::{
    domain::{Minute, Offset, Partition, Positions},
    metrics::CountMetrics,
    ports::{Applied, CacheError, EventSource, LogError, Record, SourceEvent},
};

/// One member of the group of processors.
pub struct Processor<S> {
    source: S,
    ports: CountPorts,
    settings: CountSettings,
    metrics: Arc<CountMetrics>,
    assigned: Vec<Partition>,
}

/// Counting from one set of positions on, until they turn out not to be the cache's any more.
struct Session {
    /// What was read, flushed or not.
    positions: Positions,
    /// What the cache has.
    counted: BTreeMap<Partition, Offset>,
    delta: Delta,
    first_record: Option<Instant>,
    flushing: Option<Flushing>,
    horizon: Option<Horizon>,
    looking: BoxFuture<'static, Result<Horizon, CountError>>,
    auditing: BoxFuture<'static, Result<Verdict, CountError>>,
    suspicions: u32,
}

struct Flushing {
    to: BTreeMap<Partition, Offset>,
    records: usize,
    started: Instant,
    result: BoxFuture<'static, Result<Applied, CacheError>>,
}

/// Why a session ended.
enum End {
    /// The partitions changed.
    Reassigned(Vec<Partition>),
    /// The cache stands elsewhere, or could not be asked.
    Resume,
    /// The process is going down.
    Shutdown,
}

impl<S: EventSource> Processor<S> {
    /// A processor that reads from `source`.
    pub fn new(source: S, ports: CountPorts, settings: CountSettings, metrics: Arc<CountMetrics>) -> Self {
        Self { source, ports, settings, metrics, assigned: Vec::new() }
    }

    /// Counts until `shutdown`, then flushes what it holds and returns.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let end = match self.session(&shutdown).await {
                Ok(end) => end,
                Err(error) => {
                    self.metrics.errors.inc();
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "counting interrupted; going on in a moment"
                    );
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
            horizon: None,
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
            SourceEvent::Assigned(partitions) => End::Reassigned(partitions),
            SourceEvent::Revoked | SourceEvent::Records(_) => End::Resume,
        })
    }

    /// The positions to go on from: the cache's, or those of a rebuild when it has none or they are not in the log any more.
    async fn resume(&self) -> Result<Positions, CountError> {
        // Twice is enough unless other processors rebuild at the same time; then the pause between sessions helps.
        for _ in 0..3 {
            let positions = self.ports.cache.positions().await?;
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
                tracing::warn!(?bounds, offsets = ?positions.offsets, "the cache's positions are not in the log any more");
            }
            self.rebuild(positions.map(|positions| positions.generation)).await?;
        }
        Err(LogError("the assigned partitions are not those of the topic, or the cache changes all the time".into())
            .into())
    }

    async fn rebuild(&self, seen: Option<String>) -> Result<(), CountError> {
        if rebuild(&self.ports, &self.settings, seen.as_ref()).await? {
            self.metrics.rebuilds.inc();
        }
        Ok(())
    }

    /// The loop. One flush is under way at a time; meanwhile the next delta grows, up to its limit.
    async fn count(&mut self, session: &mut Session, shutdown: &CancellationToken) -> Result<End, CountError> {
        let mut draining = false;
        loop {
            let idle = session.flushing.is_none();
            if draining && idle && session.delta.records() == 0 {
                return Ok(End::Shutdown);
            }
            let full = session.delta.records() >= self.settings.flush_records;
            let due = session.first_record.is_some_and(|first| first.elapsed() >= self.settings.flush_interval);
            if idle && (full || due || draining) {
                self.flush(session).await;
                continue;
            }
            let flushable = idle && (session.delta.records() > 0 || self.reached(session).is_some());
            tokio::select! {
                biased;
                result = result_of(&mut session.flushing) => {
                    if !self.flushed(session, result?)? {
                        return Ok(End::Resume);
                    }
                }
                () = shutdown.cancelled(), if !draining => draining = true,
                event = self.source.next(), if !full && !draining => match event? {
                    SourceEvent::Records(records) => self.take(session, records),
                    SourceEvent::Assigned(partitions) => return Ok(End::Reassigned(partitions)),
                    SourceEvent::Revoked => return Ok(End::Reassigned(Vec::new())),
                },
                // Nothing more is waiting: what we have goes out now.
                () = ready(()), if flushable => self.flush(session).await,
                horizon = &mut session.looking => {
                    session.looking = self.look(self.settings.frontier_interval);
                    let horizon = horizon?;
                    self.metrics.lag_records.set(horizon.lag(&self.assigned, &session.counted));
                    session.horizon = Some(horizon);
                }
                verdict = &mut session.auditing => {
                    session.auditing = self.audit_later();
                    if self.judge(session, verdict?).await? {
                        return Ok(End::Resume);
                    }
                }
                () = sleep_until(Instant::now() + self.settings.flush_interval), if session.delta.records() > 0 => {}
            }
        }
    }

    fn take(&self, session: &mut Session, records: Vec<Record>) {
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

    /// Starts a flush of the delta, and of the horizon if it is reached by then.
    async fn flush(&self, session: &mut Session) {
        let mut delta = mem::take(&mut session.delta);
        session.first_record = None;
        self.bury(&mut delta).await;
        let records = delta.records();
        let now = Minute::of(self.ports.clock.now());
        let mut flush = delta.into_flush(&session.positions.generation, now, self.settings.window);
        if let Some(horizon) = self.reached(session) {
            flush.as_of = Some(horizon.as_of);
            flush.partitions = horizon.partitions();
            // The promise is about all our partitions, so all of them must still be where we think.
            for partition in &self.assigned {
                let at = session.counted.get(partition).copied().unwrap_or(0);
                flush.from.entry(*partition).or_insert(at);
                flush.to.entry(*partition).or_insert(at);
            }
            session.horizon = None;
            self.metrics.lag_ms.set(self.ports.clock.now() - flush.as_of.unwrap_or_default());
        }
        let cache = Arc::clone(&self.ports.cache);
        let to = flush.to.clone();
        let result = async move { cache.apply(&flush).await }.boxed();
        session.flushing = Some(Flushing { to, records, started: Instant::now(), result });
    }

    /// The horizon, if everything below it is read by now.
    fn reached<'a>(&self, session: &'a Session) -> Option<&'a Horizon> {
        session.horizon.as_ref().filter(|horizon| horizon.lag(&self.assigned, &session.positions.offsets) == 0)
    }

    async fn bury(&self, delta: &mut Delta) {
        let dead = delta.dead();
        if dead.is_empty() {
            return;
        }
        let (count, first) = (dead.len(), dead[0].clone());
        let place = format!("{}/{}", first.partition, first.offset);
        if let Err(error) = self.ports.sink.bury(dead).await {
            // The record stays in the topic until its retention ends; waiting for it would block everybody behind it.
            tracing::error!(
                count,
                first = place,
                error = &error as &dyn std::error::Error,
                "dead letters not delivered"
            );
        } else {
            tracing::warn!(count, first = place, reason = %first.reason, "records that cannot be counted are in the dead-letter topic");
        }
    }

    /// Notes the result of a flush; false when the cache stands elsewhere.
    fn flushed(&self, session: &mut Session, applied: Applied) -> Result<bool, CountError> {
        let Some(flushing) = session.flushing.take() else { return Ok(true) };
        if let Applied::Stale(why) = applied {
            self.metrics.stale.inc();
            tracing::info!(why, "flush refused: reading the cache's positions again");
            return Ok(false);
        }
        if flushing.records > 0 {
            self.metrics.flush_records.observe(flushing.records as f64);
            self.metrics.flush_seconds.observe(flushing.started.elapsed().as_secs_f64());
            self.source.commit(&flushing.to);
        }
        session.counted.extend(flushing.to);
        Ok(true)
    }

    fn look(&self, after: Duration) -> BoxFuture<'static, Result<Horizon, CountError>> {
        let ports = self.ports.clone();
        async move {
            sleep(after).await;
            Horizon::look(&ports).await
        }
        .boxed()
    }

    /// The next audit, by whoever has the first partition.
    fn audit_later(&self) -> BoxFuture<'static, Result<Verdict, CountError>> {
        if !self.assigned.contains(&0) {
            return pending().boxed();
        }
        let (ports, settings) = (self.ports.clone(), self.settings.clone());
        async move {
            sleep(settings.audit_interval).await;
            let folded = ports.ledger.fold(settings.fold_after).await?;
            if !folded.is_empty() {
                ports.cache.forget_writers(&folded).await?;
            }
            audit(&ports, &settings).await
        }
        .boxed()
    }

    /// Acts on an audit. A difference that is still there at the next one is drift: readers are warned, the cache rebuilt.
    async fn judge(&self, session: &mut Session, verdict: Verdict) -> Result<bool, CountError> {
        match verdict {
            Verdict::Equal => {
                session.suspicions = 0;
                self.metrics.audits.inc();
                self.metrics.drift_events.set(0);
                Ok(false)
            }
            Verdict::Unknown => Ok(false),
            Verdict::Drift { generation, events, differences } => {
                session.suspicions += 1;
                if session.suspicions < 2 {
                    return Ok(false);
                }
                self.metrics.drifts.inc();
                self.metrics.drift_events.set(events);
                tracing::error!(events, ?differences, "cache and store differ: rebuilding the cache");
                self.ports.cache.doubt(&generation).await?;
                self.rebuild(Some(generation)).await?;
                Ok(true)
            }
        }
    }
}

/// The result of the flush under way, if there is one.
async fn result_of(flushing: &mut Option<Flushing>) -> Result<Applied, CacheError> {
    match flushing {
        Some(flushing) => (&mut flushing.result).await,
        None => pending().await,
    }
}
