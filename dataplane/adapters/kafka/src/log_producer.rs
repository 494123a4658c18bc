//! Publishing events and dead letters.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::BaseRecord,
};
use tokio::time::{Instant, sleep};

use super::{
    KafkaSettings, blocking, failed,
    producer::{DeliveryBatch, Enqueued, PROGRESS_TIMEOUT, Producer, PublishError},
    record::Encoder,
};
use ping_core::Partition;
use ping_ports::{DeadContent, DeadLetter, LogError, LogProducer, OutboxRow, TraceContext};

/// A call with more events than this enqueues them on a thread for blocking work: each takes about a microsecond.
const MAX_INLINE_EVENTS: usize = 200;
/// Pause before enqueueing again when the queue is full.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(2);

/// Publishes to the topic of events and to the topic of dead letters.
pub struct KafkaProducer {
    topic: Arc<str>,
    dead_letter_topic: String,
    /// How many partitions the topic had when this was last queried; 0 before the first query.
    partitions: AtomicU32,
    events: Producers,
    letters: Producers,
}

impl fmt::Debug for KafkaProducer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KafkaProducer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// The current producer. It is created when needed and replaced after a failure.
struct Producers {
    config: ClientConfig,
    current: Mutex<Option<Arc<Producer>>>,
}

impl Producers {
    fn new(config: ClientConfig) -> Self {
        Self { config, current: Mutex::new(None) }
    }

    fn current(&self) -> Result<Arc<Producer>, LogError> {
        let mut current = self.current.lock();
        if let Some(producer) = current.as_ref().filter(|producer| producer.is_usable()) {
            return Ok(Arc::clone(producer));
        }
        let producer = Arc::new(Producer::open(&self.config)?);
        *current = Some(Arc::clone(&producer));
        Ok(producer)
    }
}

impl KafkaProducer {
    /// Does not connect or start a thread yet: the first record does.
    #[must_use]
    pub fn new(settings: &KafkaSettings) -> Self {
        let mut events = settings.client();
        events
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("acks", "all")
            // An event never times out: it is durable in the outbox, and leaving it out would break the order.
            .set("message.timeout.ms", "0")
            // A call enqueues everything it has, so lingering would not make batches larger. 0 ms costs no more CPU than 2 ms,
            // here and in the broker, and saves the 2 ms.
            .set("linger.ms", "0")
            // 23 instead of 62 bytes per record, on disk and to the replicas, for 0.07 s of CPU per 100,000 in batches of 50.
            .set("compression.type", "lz4")
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "65536")
            // A processor receives whole batches, so this also bounds its memory.
            .set("batch.num.messages", "2000")
            .set("batch.size", "262144");
        let mut letters = settings.client();
        letters.set("acks", "all").set("linger.ms", "0").set("message.timeout.ms", "5000");
        Self {
            topic: settings.topic.as_str().into(),
            dead_letter_topic: settings.dead_letter_topic.clone(),
            partitions: AtomicU32::new(0),
            events: Producers::new(events),
            letters: Producers::new(letters),
        }
    }
}

/// Rows that are being enqueued.
struct Enqueueing {
    producer: Arc<Producer>,
    delivery: Arc<DeliveryBatch>,
    topic: Arc<str>,
    rows: Vec<OutboxRow>,
    /// The next record: index of its row, and index within the row.
    next: (usize, usize),
    /// How many partitions the topic has.
    partitions: u32,
    /// Whether that number was queried during this call.
    partitions_are_current: bool,
    encoder: Encoder,
}

/// Why enqueueing stopped.
enum Stop {
    /// Every record is enqueued.
    Done,
    /// The queue is full.
    QueueFull,
    /// A record belongs to a partition that is not known; the topic may have grown.
    UnknownPartition,
}

impl Enqueueing {
    /// Enqueues as many records as fit.
    fn run(&mut self) -> Result<Stop, LogError> {
        while let Some(row) = self.rows.get(self.next.0) {
            let mut traced = BTreeSet::new();
            for (seq, partition, event) in row.records().skip(self.next.1) {
                let Some(partition) = self.existing(partition) else { return Ok(Stop::UnknownPartition) };
                let value = self.encoder.encode(row.batch.writer, seq, event);
                let mut record = BaseRecord::with_opaque_to(&self.topic, Arc::clone(&self.delivery))
                    .partition(partition)
                    .timestamp(row.committed.at)
                    .payload(value);
                record.key = (!event.source.is_empty()).then_some(event.source.as_bytes());
                // One record per partition is enough for the flush to refer to the span.
                record.headers = row.trace.as_ref().filter(|_| traced.insert(partition)).map(trace_header);
                match self.producer.enqueue(record)? {
                    Enqueued::Yes => self.next.1 += 1,
                    Enqueued::QueueFull => return Ok(Stop::QueueFull),
                    Enqueued::UnknownPartition if self.partitions_are_current => return Err(unknown_partition()),
                    Enqueued::UnknownPartition => return Ok(Stop::UnknownPartition),
                }
            }
            self.next = (self.next.0 + 1, 0);
        }
        Ok(Stop::Done)
    }

    /// `partition`, or a substitute if the topic was recreated with fewer partitions. `None` if the topic may have grown.
    fn existing(&self, partition: Partition) -> Option<Partition> {
        let count = self.partitions.cast_signed();
        if partition < count {
            return Some(partition);
        }
        (self.partitions_are_current && count > 0).then(|| partition % count)
    }
}

fn trace_header(trace: &TraceContext) -> OwnedHeaders {
    OwnedHeaders::new_with_capacity(1).insert(Header { key: TraceContext::HEADER, value: Some(trace.as_str()) })
}

fn unknown_partition() -> LogError {
    failed(KafkaError::MessageProduction(RDKafkaErrorCode::UnknownPartition))
}

impl KafkaProducer {
    /// Queries the number of partitions from the cluster.
    async fn query_partitions(&self) -> Result<u32, LogError> {
        let (producer, topic) = (self.events.current()?, Arc::clone(&self.topic));
        let partitions = blocking(move || producer.partitions(&topic)).await?;
        self.partitions.store(partitions, Ordering::Relaxed);
        Ok(partitions)
    }

    /// Enqueues everything, on another thread if there are many events.
    async fn enqueue(&self, mut rows: Enqueueing) -> Result<(), LogError> {
        let many = rows.rows.iter().map(|row| row.batch.events.len()).sum::<usize>() > MAX_INLINE_EVENTS;
        let mut progress = (rows.next, Instant::now());
        loop {
            let stop = if many {
                let result = blocking(move || rows.run().map(|stop| (stop, rows))).await?;
                rows = result.1;
                result.0
            } else {
                rows.run()?
            };
            match stop {
                Stop::Done => return Ok(()),
                Stop::UnknownPartition => {
                    rows.partitions = self.query_partitions().await?;
                    rows.partitions_are_current = true;
                }
                Stop::QueueFull => sleep(QUEUE_FULL_PAUSE).await,
            }
            if progress.0 != rows.next {
                progress = (rows.next, Instant::now());
            } else if progress.1.elapsed() > PROGRESS_TIMEOUT {
                rows.producer.abandon();
                return Err(failed(PublishError::NoProgress));
            }
        }
    }
}

#[async_trait]
impl LogProducer for KafkaProducer {
    async fn publish(&self, rows: Vec<OutboxRow>) -> Result<(), LogError> {
        let (producer, delivery) = (self.events.current()?, DeliveryBatch::new());
        let rows = Enqueueing {
            producer: Arc::clone(&producer),
            delivery: Arc::clone(&delivery),
            topic: Arc::clone(&self.topic),
            rows,
            next: (0, 0),
            partitions: self.partitions.load(Ordering::Relaxed),
            partitions_are_current: false,
            encoder: Encoder::default(),
        };
        self.enqueue(rows).await?;
        producer.acknowledged(&delivery).await
    }

    async fn partitions(&self) -> Result<u32, LogError> {
        self.query_partitions().await
    }

    async fn dead_letter(&self, letters: Vec<DeadLetter>) -> Result<(), LogError> {
        let (producer, delivery) = (self.letters.current()?, DeliveryBatch::new());
        let mut encoder = Encoder::default();
        for letter in &letters {
            let value = match &letter.content {
                DeadContent::Malformed(_, value) => value.as_slice(),
                DeadContent::Phantom(event) => encoder.encode_read(event),
            };
            let headers = OwnedHeaders::new()
                .insert(Header { key: "reason", value: Some(&letter.content.reason()) })
                .insert(Header { key: "topic", value: Some(self.topic.as_ref()) })
                .insert(Header { key: "partition", value: Some(&letter.partition.to_string()) })
                .insert(Header { key: "offset", value: Some(&letter.offset.to_string()) });
            let record = || {
                BaseRecord::<(), _, _>::with_opaque_to(&self.dead_letter_topic, Arc::clone(&delivery))
                    .headers(headers.clone())
                    .payload(value)
            };
            while let Enqueued::QueueFull = producer.enqueue(record())? {
                sleep(QUEUE_FULL_PAUSE).await;
            }
        }
        producer.acknowledged(&delivery).await
    }
}
