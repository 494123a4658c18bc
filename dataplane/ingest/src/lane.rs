//! A lane: commits all waiting submissions together, and acknowledges only what the store has committed.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    task,
    time::{Instant, sleep, sleep_until},
};

use super::{
    IngestPorts, IngestSettings, Receipt, Refusal, Submission,
    assemble::{Assembly, assemble},
    publisher::Publisher,
    store_full::StoreFull,
};
use crate::IngestMetrics;
use ping_core::{Event, Seq, WriterId, partition_number};
use ping_ports::{
    Batch, CommitError, Committed, OutboxRow, RepeatedFailures, StoreError, TraceContext, TraceLinks, TraceSpan,
    TraceStep, chain,
};

/// Pause between two attempts while the store is unavailable.
const RETRY: Duration = Duration::from_millis(50);
/// How often a lane yields to the callers' tasks before it takes a batch: that makes the batch larger at almost no cost
/// (`docs/adr/0011`).
const YIELDS: usize = 16;
/// About this many events without a source go to the same partition before the next one follows. Each partition in a round of
/// publishing costs Kafka one more batch to receive, store and deliver.
const STRETCH: i64 = 4_096;

/// The time that a lane spends under one writer id.
struct WriterSession {
    writer: WriterId,
    next_seq: Seq,
    renew_at: Instant,
    publisher: Publisher,
}

pub(super) struct Lane {
    ports: IngestPorts,
    settings: IngestSettings,
    queue: mpsc::UnboundedReceiver<Submission>,
    partitions: Arc<AtomicU32>,
    orphaned: Arc<Notify>,
    store_full: Arc<StoreFull>,
    metrics: Arc<IngestMetrics>,
    session: Option<WriterSession>,
    failed_renewals: RepeatedFailures,
}

/// How a batch ended.
enum Outcome {
    Committed(Batch, Committed),
    /// It is committed, but the answer with its details was lost.
    CommittedWithoutAnswer,
    Refused(Refusal),
}

impl Lane {
    pub(super) fn new(
        ports: IngestPorts,
        settings: IngestSettings,
        queue: mpsc::UnboundedReceiver<Submission>,
        partitions: Arc<AtomicU32>,
        orphaned: Arc<Notify>,
        store_full: Arc<StoreFull>,
        metrics: Arc<IngestMetrics>,
    ) -> Self {
        let failed_renewals = RepeatedFailures::default();
        Self { ports, settings, queue, partitions, orphaned, store_full, metrics, session: None, failed_renewals }
    }

    /// Runs until every sender is dropped and the queue is empty, then publishes what is left and closes the writer.
    pub(super) async fn run(mut self) {
        let mut waiting = Vec::new();
        while self.take(&mut waiting).await {
            let calls: TraceLinks = waiting.iter().filter_map(|submission| submission.trace.as_ref()).collect();
            let (events, replies): (Vec<_>, Vec<_>) =
                waiting.drain(..).map(|submission| (submission.events, (submission.reply, submission._room))).unzip();
            let assembly = assemble(events);
            let receipts = self.record(&assembly, &calls).await;
            for ((reply, _), receipt) in replies.into_iter().zip(receipts) {
                // A caller that has gone away needs no answer.
                let _ = reply.send(receipt);
            }
        }
        if let Some(session) = self.session.take() {
            session.publisher.finish(self.settings.timeout).await;
            if let Err(error) = self.ports.store.close_writer(session.writer).await {
                tracing::warn!(writer = %session.writer, error = chain(&error), "writer not closed; its lease will expire");
            }
        }
    }

    /// Waits for submissions, and renews the lease meanwhile. False when there will be no more.
    async fn take(&mut self, waiting: &mut Vec<Submission>) -> bool {
        let mut room = self.settings.batch_events;
        loop {
            if self.session.is_none() {
                // A failure is ignored here: `commit` retries, with a deadline.
                let _ = self.open().await;
            }
            let renew_at = self.session.as_ref().map_or_else(|| Instant::now() + RETRY * 4, |session| session.renew_at);
            tokio::select! {
                biased;
                submission = self.queue.recv() => {
                    let Some(submission) = submission else { return false };
                    room = room.saturating_sub(submission.events.len());
                    waiting.push(submission);
                    break;
                }
                () = sleep_until(renew_at) => self.renew().await,
            }
        }
        for _ in 0..YIELDS {
            task::yield_now().await;
        }
        while room > 0 {
            let Ok(submission) = self.queue.try_recv() else { break };
            room = room.saturating_sub(submission.events.len());
            waiting.push(submission);
        }
        true
    }

    /// Commits a batch, in a span if some of its `calls` are traced. Returns the answer to each caller.
    async fn record(&mut self, assembly: &Assembly, calls: &TraceLinks) -> Vec<Result<Receipt, Refusal>> {
        let events = Arc::clone(&assembly.events);
        let mut span = self.ports.traces.step(TraceStep::Commit, calls);
        if let Some(span) = &mut span {
            span.set_count("ping.events", events.len());
        }
        let outcome = self.commit(&events, span.as_deref().map(TraceSpan::context)).await;
        if let (Some(span), Outcome::Refused(refusal)) = (&mut span, &outcome) {
            span.fail(refusal.to_string());
        }
        let (known, batch) = match outcome {
            Outcome::Refused(refusal) => return assembly.refuse(&refusal),
            Outcome::Committed(batch, committed) => (committed.known, Some(batch)),
            Outcome::CommittedWithoutAnswer => (events.iter().map(|event| event.id).collect(), None),
        };
        self.metrics.batches.inc();
        self.metrics.batch_events.observe(events.len() as f64);
        if known.is_empty() {
            return assembly.receipts(&known, &HashMap::new(), batch.as_ref()).into_iter().map(Ok).collect();
        }
        let ids: Vec<_> = known.iter().copied().collect();
        match self.ports.store.find(&ids).await {
            Ok(stored) => {
                let stored = stored.into_iter().map(|event| (event.id, event)).collect();
                let receipts = assembly.receipts(&known, &stored, batch.as_ref());
                self.metrics.repeated.inc_by(known.len() as u64);
                receipts.into_iter().map(Ok).collect()
            }
            Err(error) => assembly.refuse(&Refusal::OutcomeUnknown(chain(&error))),
        }
    }

    /// Retries until the batch is committed, or the callers' timeout expires. A store without disk space is not asked again.
    async fn commit(&mut self, events: &Arc<Vec<Event>>, trace: Option<&TraceContext>) -> Outcome {
        let deadline = Instant::now() + self.settings.timeout;
        loop {
            let Some(batch) = self.batch(events) else {
                match self.open().await {
                    Ok(()) => continue,
                    Err(error) if self.store_full.is_reported_by(&error) || Instant::now() >= deadline => {
                        return Outcome::Refused(self.store_full.refusal(&error));
                    }
                    Err(_) => sleep(RETRY).await,
                }
                continue;
            };
            match self.ports.store.commit(&batch).await {
                Ok(committed) => {
                    self.store_full.committed();
                    self.advance(&batch, &committed, trace);
                    return Outcome::Committed(batch, committed);
                }
                Err(error @ CommitError::Fenced) => {
                    self.abandon("the store has closed it");
                    if Instant::now() >= deadline {
                        return Outcome::Refused(self.store_full.refusal(&error));
                    }
                }
                Err(CommitError::Expired) => return Outcome::Refused(Refusal::Expired),
                Err(error @ CommitError::Refused(_)) => {
                    self.metrics.store_errors.inc();
                    if self.store_full.is_reported_by(&error) || Instant::now() >= deadline {
                        return Outcome::Refused(self.store_full.refusal(&error));
                    }
                    sleep(RETRY).await;
                }
                Err(error @ CommitError::Unknown(_)) => {
                    self.metrics.store_errors.inc();
                    self.store_full.is_reported_by(&error);
                    self.abandon("the answer to a commit was lost");
                    match self.close_and_get_last_seq(batch.writer, deadline).await {
                        Some(last) if last >= batch.last_seq() => return Outcome::CommittedWithoutAnswer,
                        Some(_) => {}
                        None => return Outcome::Refused(Refusal::OutcomeUnknown(chain(&error))),
                    }
                }
            }
        }
    }

    fn batch(&self, events: &Arc<Vec<Event>>) -> Option<Batch> {
        let partitions = self.partitions.load(Ordering::Relaxed);
        self.session.as_ref().map(|session| Batch {
            writer: session.writer,
            first_seq: session.next_seq,
            events: Arc::clone(events),
            partitions,
            partition: partition_number((session.next_seq / STRETCH).unsigned_abs() % u64::from(partitions.max(1))),
            lease: self.settings.lease,
        })
    }

    fn advance(&mut self, batch: &Batch, committed: &Committed, trace: Option<&TraceContext>) {
        if let Some(session) = &mut self.session {
            session.next_seq = batch.last_seq() + 1;
            session.renew_at = Instant::now() + self.settings.lease / 3;
            let row = OutboxRow { batch: batch.clone(), committed: committed.clone(), trace: trace.cloned() };
            session.publisher.offer(row);
        }
    }

    /// Closes a writer whose commit got no answer, which says how far it got: a statement that is still in flight then has no
    /// effect. `None` when the store does not answer in time.
    async fn close_and_get_last_seq(&self, writer: WriterId, deadline: Instant) -> Option<Seq> {
        while Instant::now() < deadline {
            match self.ports.store.close_writer(writer).await {
                Ok(last) => {
                    self.orphaned.notify_one();
                    return Some(last);
                }
                Err(_) => sleep(RETRY).await,
            }
        }
        None
    }

    async fn open(&mut self) -> Result<(), StoreError> {
        let writer = self.ports.store.open_writer(self.settings.lease).await.inspect_err(|_| {
            self.metrics.store_errors.inc();
        })?;
        tracing::info!(%writer, "lane opened");
        let publisher =
            Publisher::start(self.ports.clone(), writer, Arc::clone(&self.partitions), Arc::clone(&self.metrics));
        let renew_at = Instant::now() + self.settings.lease / 3;
        self.session = Some(WriterSession { writer, next_seq: 1, renew_at, publisher });
        Ok(())
    }

    async fn renew(&mut self) {
        let Some(session) = &mut self.session else { return };
        match self.ports.store.renew(session.writer, session.next_seq - 1, self.settings.lease).await {
            Ok(true) => {
                session.renew_at = Instant::now() + self.settings.lease / 3;
                self.store_full.answered();
            }
            Ok(false) => self.abandon("its lease expired, or the store was restored"),
            Err(error) => {
                let (error, now) = (chain(&error), Instant::now());
                if self.failed_renewals.should_report(&error, now.into_std()) {
                    tracing::warn!(writer = %session.writer, error, "lease not renewed; retrying");
                }
                session.renew_at = now + RETRY;
            }
        }
    }

    /// Abandons the writer. What it has not published is in the outbox; a relay will publish it.
    fn abandon(&mut self, why: &str) {
        if let Some(session) = self.session.take() {
            tracing::warn!(writer = %session.writer, why, "writer abandoned; the lane continues under a new one");
            self.metrics.fenced.inc();
            self.orphaned.notify_one();
        }
    }
}

impl Assembly {
    fn refuse(&self, refusal: &Refusal) -> Vec<Result<Receipt, Refusal>> {
        vec![Err(refusal.clone()); self.len()]
    }
}
