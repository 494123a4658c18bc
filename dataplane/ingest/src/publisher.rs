//! A lane's publisher: outbox → log, in order. It is handed rows in memory; what it missed it reads from the table.

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
use ping_ports::{OutboxRow, StoreError, chain};

/// Rows kept in memory, and the events in them; beyond that they are read from the table.
const ROWS: usize = 256;
const HELD: Seq = 100_000;
/// Events per round.
const ROUND: usize = 50_000;
/// Pause between rounds, unless half the rows are taken: each round costs the broker a produce request and a fetch, and
/// being woken by each batch took a fifth of the lane's time (`bench/README.md`).
const PAUSE: Duration = Duration::from_millis(20);
/// The same after a round of many events: where so much is going on, cores are worth more than milliseconds.
const LONG_PAUSE: Duration = Duration::from_millis(50);
const MANY: usize = 200;
/// How often the rows are counted meanwhile.
const TICK: Duration = Duration::from_millis(5);
/// Published rows leave the table this often.
const FORGET: Duration = Duration::from_millis(50);
/// Pause after an error.
const RETRY: Duration = Duration::from_millis(100);
/// How often the topic is asked for its partitions.
const PARTITIONS: Duration = Duration::from_secs(10);

/// How far a writer is: the last number in the store, and in the log.
#[derive(Default)]
struct Progress {
    committed: AtomicI64,
    published: AtomicI64,
}

impl Progress {
    /// Events that the log does not have.
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
            ask_at: Instant::now(),
            partitions,
            metrics,
        };
        Self { rows: Some(sender), progress, task: tokio::spawn(worker.run()) }
    }

    /// Hands over a committed row. Never waits: a row that does not fit is in the table.
    pub(super) fn offer(&self, row: OutboxRow) {
        self.progress.committed.store(row.batch.last_seq(), Ordering::Release);
        if let Some(rows) = self.rows.as_ref().filter(|_| self.progress.behind() <= HELD) {
            let _ = rows.try_send(row);
        }
    }

    /// Publishes what is left, for at most `timeout`.
    pub(super) async fn finish(mut self, limit: Duration) {
        drop(self.rows.take());
        if timeout(limit, &mut self.task).await.is_err() {
            tracing::warn!("not everything is published; another server will relay the rest");
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
    /// What follows the last round.
    pause: Duration,
    forgotten: Seq,
    forget_at: Instant,
    ask_at: Instant,
    partitions: Arc<AtomicU32>,
    metrics: Arc<IngestMetrics>,
}

impl Worker {
    async fn run(mut self) {
        loop {
            self.ask_partitions().await;
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

    /// Publishes what waits. False when the lane has gone and nothing more will come.
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
        match self.ports.sink.publish(rows).await {
            Ok(()) => {
                self.progress.published.store(last, Ordering::Release);
                self.metrics.published.inc_by(count as u64);
            }
            Err(error) => {
                self.metrics.publish_errors.inc();
                tracing::warn!(writer = %self.writer, error = chain(&error), "not published; trying again");
                sleep(RETRY).await;
            }
        }
        open
    }

    /// Replaces `rows` by what the table has after the last published one.
    async fn reread(&mut self, rows: &mut Vec<OutboxRow>) -> Result<(), StoreError> {
        *rows = self.ports.outbox.unpublished(self.writer, self.published(), ROUND).await?;
        Ok(())
    }

    async fn forget(&mut self) {
        let published = self.published();
        if published == self.forgotten || Instant::now() < self.forget_at {
            return;
        }
        self.forget_at = Instant::now() + FORGET;
        match self.ports.outbox.forget(self.writer, published).await {
            Ok(()) => self.forgotten = published,
            Err(error) => {
                tracing::debug!(writer = %self.writer, error = chain(&error), "outbox not trimmed")
            }
        }
    }

    async fn ask_partitions(&mut self) {
        if Instant::now() < self.ask_at {
            return;
        }
        self.ask_at = Instant::now() + PARTITIONS;
        match self.ports.sink.partitions().await {
            Ok(partitions) => self.partitions.store(partitions.max(1), Ordering::Relaxed),
            Err(error) => tracing::debug!(error = chain(&error), "partitions not known"),
        }
    }
}

/// Whether each row follows the one before.
fn contiguous(rows: &[OutboxRow]) -> bool {
    rows.windows(2).all(|pair| pair[0].batch.last_seq() + 1 == pair[1].batch.first_seq)
}
