//! A session: counting from one set of positions on, until the projection turns out to be elsewhere. [`SessionState`] decides
//! what to do next; the loop here does it, and waits for the next event. One flush runs at a time; meanwhile the next delta
//! grows, up to its limit.

#[cfg(test)]
mod tests;

use std::{
    future::{pending, ready},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    context::Context,
    error::CountError,
    projection::{AuditOutcome, Projection},
    session_state::{Action, SessionState, Wait},
    settings::LogPorts,
    store_check::{check_store, last_seqs_of},
    watermark::LogWatermark,
};
use ping_core::{Generation, Millis, Partition, Positions};
use ping_ports::{Applied, ConsumerEvent, DeadContent, Incarnation, LogConsumer, LogError, Record, TraceSpan, chain};

/// Audits in a row that must find a difference before it counts as drift. A single one may be an event in flight.
const DRIFTING_AUDITS: u32 = 2;
/// How long records are compared with the store one by one, after the last one that the store did not have.
const CHECK_RECORDS: Duration = Duration::from_secs(10);

/// Why a session ended.
pub(super) enum SessionEnd {
    /// The partitions changed; these are assigned now.
    Reassigned(Vec<Partition>),
    /// The projection has other positions: read them again.
    Resume,
    /// The process is shutting down, and everything read is flushed.
    Shutdown,
}

/// What a waiting session wakes up for.
enum Event {
    Flushed(Result<Applied, CountError>),
    ShutdownRequested,
    Consumed(Result<ConsumerEvent, LogError>),
    /// No other event is ready, and there is something to flush.
    Quiet,
    /// There is a watermark, which is not checked yet.
    WatermarkRead(Result<LogWatermark, CountError>),
    WatermarkChecked(Result<LogWatermark, CountError>),
    Audited(Result<AuditOutcome, CountError>),
    /// The time has come for the next action.
    Timer,
}

/// A call that runs while the session goes on reading.
type Running<T> = Option<BoxFuture<'static, Result<T, CountError>>>;

/// A running session.
pub(super) struct Session<'a, C, P: Projection> {
    consumer: &'a mut C,
    context: &'a Context<P>,
    state: SessionState<P::Sums>,
    flush: Running<Applied>,
    /// The watermark in the running flush, if it has one.
    flushing_as_of: Option<Millis>,
    watermark: Running<LogWatermark>,
    watermark_check: Running<LogWatermark>,
    audit: Running<AuditOutcome>,
    drifting_audits: u32,
    /// Until this time, records are compared with the store before they are counted. Later, that is done once per flush.
    check_records_until: Option<Instant>,
}

impl<'a, C: LogConsumer, P: Projection> Session<'a, C, P> {
    /// A session that continues from `positions`, which `consumer` reads from already. `check_records`: some of the records may be
    /// of events that the store does not have.
    pub(super) fn new(
        consumer: &'a mut C,
        context: &'a Context<P>,
        assigned: Vec<Partition>,
        positions: Positions,
        check_records: bool,
    ) -> Self {
        let state = SessionState::new(P::PRIMARY, context.settings.clone(), assigned, positions, Instant::now());
        let check_records_until = check_records.then(|| Instant::now() + CHECK_RECORDS);
        Self {
            consumer,
            context,
            state,
            flush: None,
            flushing_as_of: None,
            watermark: None,
            watermark_check: None,
            audit: None,
            drifting_audits: 0,
            check_records_until,
        }
    }

    /// Runs until the session ends.
    pub(super) async fn run(mut self, shutdown: &CancellationToken) -> Result<SessionEnd, CountError> {
        loop {
            match self.state.next_action(Instant::now()) {
                Action::Finish => return Ok(SessionEnd::Shutdown),
                Action::Flush => self.start_flush().await,
                Action::CheckWatermark => self.start_watermark_check(),
                Action::Audit => self.start_audit(),
                Action::Wait(wait) => {
                    let event = self.next_event(wait, shutdown).await;
                    if let Some(end) = self.handle(event).await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    async fn next_event(&mut self, wait: Wait, shutdown: &CancellationToken) -> Event {
        let timer = async {
            match wait.wake_at {
                Some(time) => sleep_until(time).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            applied = result_of(&mut self.flush) => Event::Flushed(applied),
            () = shutdown.cancelled(), if wait.for_shutdown => Event::ShutdownRequested,
            event = self.consumer.next(), if wait.for_records => Event::Consumed(event),
            () = ready(()), if wait.flush_when_quiet => Event::Quiet,
            watermark = result_of(&mut self.watermark) => Event::WatermarkRead(watermark),
            watermark = result_of(&mut self.watermark_check) => Event::WatermarkChecked(watermark),
            outcome = result_of(&mut self.audit) => Event::Audited(outcome),
            () = timer => Event::Timer,
        }
    }

    async fn handle(&mut self, event: Event) -> Result<Option<SessionEnd>, CountError> {
        match event {
            Event::Flushed(applied) => return Ok(self.flushed(applied?)),
            Event::ShutdownRequested => self.state.drain(),
            Event::Consumed(event) => match event? {
                ConsumerEvent::Records(records) => self.take(records).await?,
                ConsumerEvent::Assigned(partitions) => return Ok(Some(SessionEnd::Reassigned(partitions))),
                ConsumerEvent::Revoked => return Ok(Some(SessionEnd::Reassigned(Vec::new()))),
            },
            Event::Quiet => self.start_flush().await,
            Event::WatermarkRead(watermark) => self.check_watermark(watermark?),
            Event::WatermarkChecked(watermark) => {
                let lag = self.state.watermark_checked(watermark?, Instant::now());
                self.context.metrics.lag_records.set(lag);
            }
            Event::Audited(outcome) => {
                self.state.audited(Instant::now());
                return self.act_on(outcome?).await;
            }
            Event::Timer => {}
        }
        Ok(None)
    }

    async fn take(&mut self, records: Vec<Record>) -> Result<(), CountError> {
        let last_seqs = match self.check_records_until.filter(|until| Instant::now() < *until) {
            Some(_) => Some(last_seqs_of(&*self.context.ports.outbox, &records).await?),
            None => None,
        };
        let (metrics, now) = (&self.context.metrics, Instant::now());
        metrics.records.inc_by(records.len() as u64);
        let tally = self.state.take(records, last_seqs.as_ref(), now);
        metrics.duplicates.inc_by(tally.duplicates);
        metrics.dead_letters.inc_by(tally.dead);
        metrics.phantoms.inc_by(tally.phantoms);
        if tally.phantoms > 0 {
            self.check_records_until = Some(now + CHECK_RECORDS);
        }
        Ok(())
    }

    /// Starts to flush what was read, together with the watermark if everything below it is read.
    async fn start_flush(&mut self) {
        self.send_dead_letters().await;
        let span = self.context.ports.traces.step(P::STEP, self.state.traces());
        let (advance, sums) = self.state.begin_flush(Instant::now());
        self.flushing_as_of = advance.as_of;
        let (projection, outbox) = (Arc::clone(&self.context.projection), Arc::clone(&self.context.ports.outbox));
        let flush = async move {
            check_store(&*outbox, advance.writers()).await?;
            projection.apply(advance, sums).await
        };
        self.flush = Some(in_span(flush, span).boxed());
    }

    async fn send_dead_letters(&mut self) {
        let mut dead = self.state.take_dead_letters();
        dead.retain(|letter| P::sends(&letter.content));
        let Some(first) = dead.first() else { return };
        let (count, reason, place) =
            (dead.len(), first.content.reason(), format!("{}/{}", first.partition, first.offset));
        let phantoms = dead.iter().filter(|letter| matches!(letter.content, DeadContent::Phantom(_))).count();
        if let Err(error) = self.context.ports.producer.dead_letter(dead).await {
            // The records stay in the topic until its retention ends. Waiting would block every record behind them.
            tracing::error!(count, first = place, error = chain(&error), "dead letters not delivered");
        } else {
            tracing::warn!(count, first = place, %reason, "records that are not counted were sent to the dead-letter topic");
            note_phantoms(&self.context.ports, phantoms).await;
        }
    }

    fn flushed(&mut self, applied: Applied) -> Option<SessionEnd> {
        let metrics = &self.context.metrics;
        if let Applied::Stale(why) = applied {
            metrics.stale.inc();
            tracing::info!(why, "flush rejected; reading the positions again");
            return Some(SessionEnd::Resume);
        }
        metrics.cache_full.set(0);
        if let Some(as_of) = self.flushing_as_of.take() {
            metrics.set_as_of(as_of);
        }
        let flush = self.state.flushed(Instant::now())?;
        if flush.records > 0 {
            metrics.flush_records.observe(flush.records as f64);
            metrics.flush_seconds.observe(flush.time.as_secs_f64());
            self.consumer.commit(&flush.to);
        }
        None
    }

    fn start_watermark_check(&mut self) {
        self.state.start_watermark_check();
        let (ports, next) = (self.context.ports.clone(), self.state.next_offsets());
        self.watermark = Some(async move { LogWatermark::ask(&ports, next).await }.boxed());
    }

    fn check_watermark(&mut self, watermark: LogWatermark) {
        let (ports, read) = (self.context.ports.clone(), self.state.highest_read());
        self.watermark_check = Some(async move { watermark.check(&ports, read).await }.boxed());
    }

    fn start_audit(&mut self) {
        self.state.start_audit();
        let projection = Arc::clone(&self.context.projection);
        let audit = async move {
            projection.maintain().await?;
            projection.audit().await
        };
        self.audit = Some(audit.boxed());
    }

    /// Acts on an audit. When two in a row find a difference, readers are warned and the projection is rebuilt.
    async fn act_on(&mut self, outcome: AuditOutcome) -> Result<Option<SessionEnd>, CountError> {
        let metrics = &self.context.metrics;
        match outcome {
            AuditOutcome::Unknown => Ok(None),
            AuditOutcome::Equal => {
                self.drifting_audits = 0;
                metrics.audits.inc();
                metrics.drift_events.set(0);
                Ok(None)
            }
            AuditOutcome::Outdated { generation } => {
                tracing::info!(
                    generation,
                    "a program of an earlier version was running: rebuilding what cannot be audited"
                );
                self.rebuild(&generation).await
            }
            AuditOutcome::Drift { generation, drift } => {
                self.drifting_audits += 1;
                if self.drifting_audits < DRIFTING_AUDITS {
                    return Ok(None);
                }
                metrics.drifts.inc();
                metrics.drift_events.set(drift.events);
                let (events, differences) = (drift.events, drift.differences);
                tracing::error!(events, ?differences, "counts differ from the stored events: rebuilding them");
                self.drop_calls();
                self.context.projection.mark_suspect(&generation).await?;
                self.rebuild(&generation).await
            }
        }
    }

    async fn rebuild(&mut self, generation: &Generation) -> Result<Option<SessionEnd>, CountError> {
        self.drop_calls();
        self.context.rebuild(Some(generation)).await?;
        Ok(Some(SessionEnd::Resume))
    }

    /// Ends the calls that run. Nothing polls them any more, and what comes next would wait for what they hold: the embedded mode's store
    /// has one connection for writing.
    fn drop_calls(&mut self) {
        (self.flush, self.watermark, self.watermark_check) = (None, None, None);
    }
}

/// A flush during `span`.
async fn in_span(
    flush: impl Future<Output = Result<Applied, CountError>>,
    mut span: Option<Box<dyn TraceSpan>>,
) -> Result<Applied, CountError> {
    let applied = flush.await;
    if let Some(span) = &mut span {
        match &applied {
            Ok(Applied::Done) => {}
            Ok(Applied::Stale(why)) => span.fail(format!("rejected: {why}")),
            Err(error) => span.fail(chain(error)),
        }
    }
    applied
}

/// A failure does not stop counting: the dead letters and the metric have them.
async fn note_phantoms(ports: &LogPorts, phantoms: usize) {
    if phantoms == 0 {
        return;
    }
    let number = i64::try_from(phantoms).unwrap_or(i64::MAX);
    if let Err(error) = ports.incarnations.note_change(Incarnation::Store, number, ports.clock.now()).await {
        tracing::warn!(phantoms, error = chain(&error), "phantom events not noted");
    }
}

/// The result of a call, once it is there; never, when none is running.
async fn result_of<T>(running: &mut Running<T>) -> Result<T, CountError> {
    let Some(call) = running else { return pending().await };
    let result = call.await;
    *running = None;
    result
}
