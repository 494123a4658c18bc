//! A lane's publisher: outbox → log, in order. The lane hands it rows in memory; rows that did not fit are read from the
//! outbox.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::IngestPorts;
use crate::IngestMetrics;
use ping_core::{Seq, WriterId};
use ping_ports::{OutboxRow, RepeatedFailures, StoreError, TraceLinks, TraceSpan, TraceStep, Traces, chain};

/// Rows kept in memory. Further rows are read from the outbox.
const ROWS: usize = 256;
/// Events that may be unpublished before rows are no longer kept in memory.
const EVENTS: Seq = 100_000;
/// Events per round.
const ROUND: usize = 50_000;
/// Pause between rounds, unless half of the rows are used: each round costs the broker a produce request and a fetch, and
/// waking up for each batch took a fifth of the lane's time (`docs/adr/0002`).
const PAUSE: Duration = Duration::from_millis(20);
/// Pause after a round of many events: under load, CPU time matters more than milliseconds.
const LONG_PAUSE: Duration = Duration::from_millis(50);
/// From this many events on, a round has many.
const MANY: usize = 200;
/// How often the number of rows is checked during a pause.
const TICK: Duration = Duration::from_millis(5);
/// How often published rows are deleted from the outbox.
const FORGET: Duration = Duration::from_millis(50);
/// How often that is repeated while nothing is published: a store that was restored to an earlier time has them again, and they would hold
/// back the watermark.
const FORGET_AGAIN: Duration = Duration::from_secs(1);
/// Pause after an error.
const RETRY: Duration = Duration::from_millis(100);
/// How often the number of partitions is read.
const PARTITIONS: Duration = Duration::from_secs(10);

/// How far a writer is: its last sequence number in the store, and in the log.
#[derive(Default)]
struct Progress {
    committed: AtomicI64,
    published: AtomicI64,
}

impl Progress {
    /// Events that are not published.
    fn behind(&self) -> Seq {
        self.committed.load(Ordering::Acquire) - self.published.load(Ordering::Acquire)
    }
}

/// The lane's end of a publisher. Dropping it abandons the writer.
pub(super) struct Publisher {
    rows: Option<mpsc::Sender<OutboxRow>>,
    progress: Arc<Progress>,
    task: JoinHandle<()>,
}

impl Publisher {
    pub(super) fn start(
        ports: IngestPorts,
        writer: WriterId,
        partitions: Arc<AtomicU32>,
        metrics: Arc<IngestMetrics>,
    ) -> Self {
        let (sender, rows) = mpsc::channel(ROWS);
        let progress = Arc::<Progress>::default();
        let worker = Worker {
            ports,
            writer,
            rows,
            progress: Arc::clone(&progress),
            pause: PAUSE,
            forgotten: 0,
            forget_at: Instant::now() + FORGET,
            forget_again_at: Instant::now() + FORGET_AGAIN,
            partitions_at: Instant::now(),
            partitions,
            failures: RepeatedFailures::default(),
            metrics,
        };
        Self { rows: Some(sender), progress, task: tokio::spawn(worker.run()) }
    }

    /// Hands over a committed row. Never waits: a row that does not fit is read from the outbox.
    pub(super) fn offer(&self, row: OutboxRow) {
        self.progress.committed.store(row.batch.last_seq(), Ordering::Release);
        if let Some(rows) = self.rows.as_ref().filter(|_| self.progress.behind() <= EVENTS) {
            let _ = rows.try_send(row);
        }
    }

    /// Publishes what is left, for at most `timeout`.
    pub(super) async fn finish(mut self, limit: Duration) {
        drop(self.rows.take());
        if timeout(limit, &mut self.task).await.is_err() {
            tracing::warn!("shutdown timeout: some events are not published yet; another server will relay them");
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Worker {
    ports: IngestPorts,
    writer: WriterId,
    rows: mpsc::Receiver<OutboxRow>,
    progress: Arc<Progress>,
    /// The pause after the last round.
    pause: Duration,
    forgotten: Seq,
    forget_at: Instant,
    forget_again_at: Instant,
    partitions_at: Instant,
    partitions: Arc<AtomicU32>,
    failures: RepeatedFailures,
    metrics: Arc<IngestMetrics>,
}

impl Worker {
    async fn run(mut self) {
        loop {
            self.update_partitions().await;
            let open = self.round().await;
            self.forget().await;
            if !open && self.progress.behind() <= 0 {
                break;
            }
            self.pause().await;
        }
        self.forget_at = Instant::now();
        self.forget().await;
    }

    async fn pause(&self) {
        let end = Instant::now() + self.pause;
        while Instant::now() < end && self.rows.len() < ROWS / 2 && !self.rows.is_closed() {
            sleep(TICK).await;
        }
    }

    fn published(&self) -> Seq {
        self.progress.published.load(Ordering::Acquire)
    }

    /// Publishes what is waiting. False when the lane has ended and no more rows will come.
    async fn round(&mut self) -> bool {
        let mut rows = Vec::new();
        let mut events = 0;
        let open = loop {
            match self.rows.try_recv() {
                Ok(row) => {
                    events += row.batch.events.len();
                    rows.push(row);
                }
                Err(mpsc::error::TryRecvError::Empty) => break true,
                Err(mpsc::error::TryRecvError::Disconnected) => break false,
            }
            if events >= ROUND {
                break true;
            }
        };
        let behind = rows.is_empty() && self.progress.behind() > 0;
        let gap = rows.first().is_some_and(|row| row.batch.first_seq != self.published() + 1);
        if (behind || gap || !contiguous(&rows)) && self.reread(&mut rows).await.is_err() {
            sleep(RETRY).await;
            return open;
        }
        let count: usize = rows.iter().map(|row| row.batch.events.len()).sum();
        self.pause = if count < MANY { PAUSE } else { LONG_PAUSE };
        let Some(last) = rows.last().map(|row| row.batch.last_seq()) else { return open };
        let mut span = start_span(&self.ports.traces, &mut rows);
        match self.ports.producer.publish(rows).await {
            Ok(()) => {
                self.progress.published.store(last, Ordering::Release);
                self.metrics.published.inc_by(count as u64);
            }
            Err(error) => {
                self.metrics.publish_errors.inc();
                let error = chain(&error);
                if let Some(span) = &mut span {
                    span.fail(error.clone());
                }
                if self.failures.should_report(&error, Instant::now().into_std()) {
                    tracing::warn!(writer = %self.writer, error, "publishing failed; retrying");
                }
                sleep(RETRY).await;
            }
        }
        open
    }

    /// Replaces `rows` with what the outbox has after the last published one.
    async fn reread(&mut self, rows: &mut Vec<OutboxRow>) -> Result<(), StoreError> {
        *rows = self.ports.outbox.unpublished(self.writer, self.published(), ROUND).await?;
        Ok(())
    }

    async fn forget(&mut self) {
        let (published, now) = (self.published(), Instant::now());
        let due = if published == self.forgotten { self.forget_again_at } else { self.forget_at };
        if published == 0 || now < due {
            return;
        }
        self.forget_at = now + FORGET;
        self.forget_again_at = now + FORGET_AGAIN;
        match self.ports.outbox.forget(self.writer, published).await {
            Ok(()) => self.forgotten = published,
            Err(error) => {
                tracing::debug!(writer = %self.writer, error = chain(&error), "published rows not deleted from the outbox; retrying")
            }
        }
    }

    async fn update_partitions(&mut self) {
        if Instant::now() < self.partitions_at {
            return;
        }
        self.partitions_at = Instant::now() + PARTITIONS;
        match self.ports.producer.partitions().await {
            Ok(partitions) => self.partitions.store(partitions.max(1), Ordering::Relaxed),
            Err(error) => tracing::debug!(error = chain(&error), "number of partitions not updated"),
        }
    }
}

/// The span of a round, if some of its rows are traced. Their records refer to it.
fn start_span(traces: &Traces, rows: &mut [OutboxRow]) -> Option<Box<dyn TraceSpan>> {
    let commits: TraceLinks = rows.iter().filter_map(|row| row.trace.as_ref()).collect();
    let mut span = traces.step(TraceStep::Publish, &commits)?;
    span.set_count("ping.events", rows.iter().map(|row| row.batch.events.len()).sum());
    for trace in rows.iter_mut().filter_map(|row| row.trace.as_mut()) {
        trace.clone_from(span.context());
    }
    Some(span)
}

/// Whether each row follows the one before.
fn contiguous(rows: &[OutboxRow]) -> bool {
    rows.windows(2).all(|pair| pair[0].batch.last_seq() + 1 == pair[1].batch.first_seq)
}
