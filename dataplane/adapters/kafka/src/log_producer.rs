//! Publishing.

use std::{
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
    producer::{Broken, DeliveryBatch, Handed, Producer, TIMEOUT},
    record::Encoder,
};
use ping_core::Partition;
use ping_ports::{DeadLetter, LogError, LogProducer, OutboxRow};

/// A call with more events than this hands them over on another thread: each takes about a microsecond.
const FEW: usize = 200;
/// Pause while the queue is full.
const FULL: Duration = Duration::from_millis(2);

/// The topic of events and the one of dead letters.
pub struct KafkaProducer {
    topic: Arc<str>,
    dead_letter_topic: String,
    /// As many partitions as the topic had when somebody asked.
    partitions: AtomicU32,
    events: Producers,
    letters: Producers,
}

impl fmt::Debug for KafkaProducer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KafkaProducer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// The line in use, made when it is needed; a broken one is replaced.
struct Producers {
    config: ClientConfig,
    current: Mutex<Option<Arc<Producer>>>,
}

impl Producers {
    fn new(config: ClientConfig) -> Self {
        Self { config, current: Mutex::new(None) }
    }

    fn line(&self) -> Result<Arc<Producer>, LogError> {
        let mut current = self.current.lock();
        if let Some(line) = current.as_ref().filter(|line| line.is_usable()) {
            return Ok(Arc::clone(line));
        }
        let line = Arc::new(Producer::open(&self.config)?);
        *current = Some(Arc::clone(&line));
        Ok(line)
    }
}

impl KafkaProducer {
    /// Does not connect yet, nor start a thread: the first record does.
    #[must_use]
    pub fn new(settings: &KafkaSettings) -> Self {
        let mut events = settings.client();
        events
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("acks", "all")
            // An event is never given up: it is durable elsewhere, and leaving it out would break the order.
            .set("message.timeout.ms", "0")
            // A call hands over all it has, so waiting for more makes larger batches of nothing: 0 costs no more CPU than 2,
            // here and in the broker, and saves the 2 ms.
            .set("linger.ms", "0")
            // 23 instead of 62 bytes a record on disk and to the replicas, for 0.07 s of CPU per 100,000 in batches of 50.
            .set("compression.type", "lz4")
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "65536")
            // A batch is the least that a processor gets at once, so it bounds the processor's memory, too.
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

/// Rows on their way into a line.
struct Loading {
    line: Arc<Producer>,
    call: Arc<DeliveryBatch>,
    topic: Arc<str>,
    rows: Vec<OutboxRow>,
    /// Where it stands: row, and record in it.
    at: (usize, usize),
    /// How many partitions the topic has, and whether that was asked for this call.
    partitions: (u32, bool),
    encoder: Encoder,
}

/// Why a loading stopped.
enum Stop {
    /// Everything is handed over.
    Done,
    /// There is no room.
    Full,
    /// A record wants a partition beyond those known; there may be more by now.
    Beyond,
}

impl Loading {
    /// Hands over as many records as fit.
    fn load(&mut self) -> Result<Stop, LogError> {
        while let Some(row) = self.rows.get(self.at.0) {
            for (seq, partition, event) in row.records().skip(self.at.1) {
                let Some(partition) = self.existing(partition) else { return Ok(Stop::Beyond) };
                let value = self.encoder.encode(row.batch.writer, seq, event);
                let mut record = BaseRecord::with_opaque_to(&self.topic, Arc::clone(&self.call))
                    .partition(partition)
                    .timestamp(row.committed.at)
                    .payload(value);
                record.key = (!event.source.is_empty()).then_some(event.source.as_bytes());
                match self.line.hand(record)? {
                    Handed::Over => self.at.1 += 1,
                    Handed::Full => return Ok(Stop::Full),
                    Handed::NoPartition if self.partitions.1 => return Err(unknown_partition()),
                    Handed::NoPartition => return Ok(Stop::Beyond),
                }
            }
            self.at = (self.at.0 + 1, 0);
        }
        Ok(Stop::Done)
    }

    /// `partition`, or its stand-in when the topic was made anew with fewer of them.
    fn existing(&self, partition: Partition) -> Option<Partition> {
        let (count, asked) = (self.partitions.0.cast_signed(), self.partitions.1);
        if partition < count {
            return Some(partition);
        }
        (asked && count > 0).then(|| partition % count)
    }
}

fn unknown_partition() -> LogError {
    failed(KafkaError::MessageProduction(RDKafkaErrorCode::UnknownPartition))
}

impl KafkaProducer {
    /// Asks the cluster.
    async fn ask_partitions(&self) -> Result<u32, LogError> {
        let (line, topic) = (self.events.line()?, Arc::clone(&self.topic));
        let partitions = blocking(move || line.partitions(&topic)).await?;
        self.partitions.store(partitions, Ordering::Relaxed);
        Ok(partitions)
    }

    /// Hands everything over, on another thread if it is much.
    async fn load(&self, mut loading: Loading) -> Result<(), LogError> {
        let many = loading.rows.iter().map(|row| row.batch.events.len()).sum::<usize>() > FEW;
        let mut moved = (loading.at, Instant::now());
        loop {
            let stop = if many {
                let result = blocking(move || loading.load().map(|stop| (stop, loading))).await?;
                loading = result.1;
                result.0
            } else {
                loading.load()?
            };
            match stop {
                Stop::Done => return Ok(()),
                Stop::Beyond => loading.partitions = (self.ask_partitions().await?, true),
                Stop::Full => sleep(FULL).await,
            }
            if moved.0 != loading.at {
                moved = (loading.at, Instant::now());
            } else if moved.1.elapsed() > TIMEOUT {
                loading.line.give_up();
                return Err(failed(Broken::Silent));
            }
        }
    }
}

#[async_trait]
impl LogProducer for KafkaProducer {
    async fn publish(&self, rows: Vec<OutboxRow>) -> Result<(), LogError> {
        let (line, call) = (self.events.line()?, DeliveryBatch::new());
        let loading = Loading {
            line: Arc::clone(&line),
            call: Arc::clone(&call),
            topic: Arc::clone(&self.topic),
            rows,
            at: (0, 0),
            partitions: (self.partitions.load(Ordering::Relaxed), false),
            encoder: Encoder::default(),
        };
        self.load(loading).await?;
        line.acknowledged(&call).await
    }

    async fn partitions(&self) -> Result<u32, LogError> {
        self.ask_partitions().await
    }

    async fn dead_letter(&self, letters: Vec<DeadLetter>) -> Result<(), LogError> {
        let (line, call) = (self.letters.line()?, DeliveryBatch::new());
        for letter in &letters {
            let headers = OwnedHeaders::new()
                .insert(Header { key: "reason", value: Some(&letter.reason.to_string()) })
                .insert(Header { key: "topic", value: Some(self.topic.as_ref()) })
                .insert(Header { key: "partition", value: Some(&letter.partition.to_string()) })
                .insert(Header { key: "offset", value: Some(&letter.offset.to_string()) });
            let record = || {
                BaseRecord::<(), _, _>::with_opaque_to(&self.dead_letter_topic, Arc::clone(&call))
                    .headers(headers.clone())
                    .payload(letter.value.as_slice())
            };
            while let Handed::Full = line.hand(record())? {
                sleep(FULL).await;
            }
        }
        line.acknowledged(&call).await
    }
}
