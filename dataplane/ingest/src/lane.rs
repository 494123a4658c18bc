//! A lane: takes what waits, commits it at once, and acknowledges only what the store has.

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
};
use crate::IngestMetrics;
use ping_core::{Event, Seq, WriterId};
use ping_ports::{Batch, CommitError, Committed, OutboxRow, StoreError, chain};

/// Pause between two tries of a store that does not answer.
const RETRY: Duration = Duration::from_millis(50);
/// Turns given to the callers' tasks before a batch is taken: they make it larger at next to no cost (`bench/README.md`).
const YIELDS: usize = 16;
/// Events without a source stay on one partition for about this many: every partition in a round of publishing is one more
/// batch for Kafka to take, to store and to hand out.
const STRETCH: i64 = 4_096;

/// A lane's stay under one writer id.
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
    metrics: Arc<IngestMetrics>,
    tenure: Option<WriterSession>,
}

/// How a batch ended.
enum Outcome {
    Committed(Batch, Committed),
    /// It is in the store, and the answer that told more is lost.
    Settled,
    Refused(Refusal),
}

impl Lane {
    pub(super) fn new(
        ports: IngestPorts,
        settings: IngestSettings,
        queue: mpsc::UnboundedReceiver<Submission>,
        partitions: Arc<AtomicU32>,
        orphaned: Arc<Notify>,
        metrics: Arc<IngestMetrics>,
    ) -> Self {
        Self { ports, settings, queue, partitions, orphaned, metrics, tenure: None }
    }

    /// Runs until every sender is gone and the queue is empty, then publishes what is left and closes the writer.
    pub(super) async fn run(mut self) {
        let mut waiting = Vec::new();
        while self.take(&mut waiting).await {
            let (events, replies): (Vec<_>, Vec<_>) =
                waiting.drain(..).map(|submission| (submission.events, (submission.reply, submission._room))).unzip();
            let assembly = assemble(events);
            let receipts = self.record(&assembly).await;
            for ((reply, _), receipt) in replies.into_iter().zip(receipts) {
                // A caller that is gone does not need its answer.
                let _ = reply.send(receipt);
            }
        }
        if let Some(tenure) = self.tenure.take() {
            tenure.publisher.finish(self.settings.timeout).await;
            if let Err(error) = self.ports.store.close_writer(tenure.writer).await {
                tracing::warn!(writer = %tenure.writer, error = chain(&error), "writer not closed; its lease will run out");
            }
        }
    }

    /// Waits for submissions, keeping the lease alive meanwhile. False when there will be no more.
    async fn take(&mut self, waiting: &mut Vec<Submission>) -> bool {
        let mut room = self.settings.batch_events;
        loop {
            if self.tenure.is_none() {
                // Failing is fine here: whoever comes meanwhile makes the lane try again, with a deadline.
                let _ = self.open().await;
            }
            let renew_at = self.tenure.as_ref().map_or_else(|| Instant::now() + RETRY * 4, |tenure| tenure.renew_at);
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

    /// Commits a batch and says what to tell each caller.
    async fn record(&mut self, assembly: &Assembly) -> Vec<Result<Receipt, Refusal>> {
        let events = Arc::clone(&assembly.events);
        let (known, batch) = match self.commit(&events).await {
            Outcome::Refused(refusal) => return assembly.refuse(&refusal),
            Outcome::Committed(batch, committed) => (committed.known, Some(batch)),
            Outcome::Settled => (events.iter().map(|event| event.id).collect(), None),
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

    /// Tries until the batch is in the store, or the callers' timeout ends.
    async fn commit(&mut self, events: &Arc<Vec<Event>>) -> Outcome {
        let deadline = Instant::now() + self.settings.timeout;
        loop {
            let Some(batch) = self.batch(events) else {
                match self.open().await {
                    Ok(()) => continue,
                    Err(error) if Instant::now() >= deadline => {
                        return Outcome::Refused(Refusal::Unavailable(chain(&error)));
                    }
                    Err(_) => sleep(RETRY).await,
                }
                continue;
            };
            match self.ports.store.commit(&batch).await {
                Ok(committed) => {
                    self.advance(&batch, &committed);
                    return Outcome::Committed(batch, committed);
                }
                Err(CommitError::Fenced) => self.abandon("its writer was fenced"),
                Err(error @ CommitError::Refused(_)) => {
                    self.metrics.store_errors.inc();
                    if Instant::now() >= deadline {
                        return Outcome::Refused(Refusal::Unavailable(chain(&error)));
                    }
                    sleep(RETRY).await;
                }
                Err(error @ CommitError::Unknown(_)) => {
                    self.metrics.store_errors.inc();
                    self.abandon("the outcome of a commit is unknown");
                    match self.settle(batch.writer, deadline).await {
                        Some(last) if last >= batch.last_seq() => return Outcome::Settled,
                        Some(_) => {}
                        None => return Outcome::Refused(Refusal::OutcomeUnknown(chain(&error))),
                    }
                }
            }
        }
    }

    fn batch(&self, events: &Arc<Vec<Event>>) -> Option<Batch> {
        let partitions = self.partitions.load(Ordering::Relaxed);
        self.tenure.as_ref().map(|tenure| Batch {
            writer: tenure.writer,
            first_seq: tenure.next_seq,
            events: Arc::clone(events),
            partitions,
            partition: i32::try_from(tenure.next_seq / STRETCH % i64::from(partitions.max(1))).unwrap_or_default(),
            lease: self.settings.lease,
        })
    }

    fn advance(&mut self, batch: &Batch, committed: &Committed) {
        if let Some(tenure) = &mut self.tenure {
            tenure.next_seq = batch.last_seq() + 1;
            tenure.renew_at = Instant::now() + self.settings.lease / 3;
            tenure.publisher.offer(OutboxRow { batch: batch.clone(), committed: committed.clone() });
        }
    }

    /// Learns the last number of a writer whose commit got lost, by closing it: a statement that is still on its way then
    /// finds the door shut. `None` when the store does not answer in time.
    async fn settle(&self, writer: WriterId, deadline: Instant) -> Option<Seq> {
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
        self.tenure = Some(WriterSession { writer, next_seq: 1, renew_at, publisher });
        Ok(())
    }

    async fn renew(&mut self) {
        let Some(tenure) = &mut self.tenure else { return };
        match self.ports.store.renew(tenure.writer, self.settings.lease).await {
            Ok(true) => tenure.renew_at = Instant::now() + self.settings.lease / 3,
            Ok(false) => self.abandon("its lease ran out"),
            Err(error) => {
                tracing::warn!(writer = %tenure.writer, error = chain(&error), "lease not renewed");
                tenure.renew_at = Instant::now() + RETRY;
            }
        }
    }

    /// Leaves the writer id for good; what it has not published is in the outbox, for a relay.
    fn abandon(&mut self, why: &str) {
        if let Some(tenure) = self.tenure.take() {
            tracing::warn!(writer = %tenure.writer, why, "lane starts over under a new writer");
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
