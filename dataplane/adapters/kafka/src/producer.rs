//! A producer that is used until its first failure.
//!
//! Publishing guarantees *runs*: on every partition, the events of one writer appear in ascending runs without gaps, and each run
//! starts at or before the first event that is not yet published. So every number appears for the *first* time in ascending order.
//!
//! A producer keeps this guarantee in three ways: records leave it in the order in which they were enqueued (idempotence), no record
//! is left out before a later one arrives (gapless guarantee), and after the first failure it accepts no more records. Records still
//! queued when a producer is abandoned may or may not arrive, now or later. Either way they continue a run without gaps, and the run
//! that repeats them on the next producer starts before them. So producers may overlap, and a publisher that is cancelled in the
//! middle of a call leaves a shorter run, nothing worse.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, ToBytes},
    producer::{BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer},
};
use tokio::{sync::Notify, time::timeout};

use super::{QUERY_TIMEOUT, failed, logging, topics::partitions_of};
use ping_ports::LogError;

/// A call fails when none of its records makes progress for this long.
pub(super) const PROGRESS_TIMEOUT: Duration = Duration::from_secs(20);

/// The records that one call enqueues, and how many are still unacknowledged.
#[derive(Debug)]
pub(super) struct DeliveryBatch {
    /// Unacknowledged records, plus one while the call is still enqueueing.
    pending: AtomicI64,
    failed: AtomicBool,
    changed: Notify,
}

impl DeliveryBatch {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { pending: AtomicI64::new(1), failed: AtomicBool::new(false), changed: Notify::new() })
    }

    fn acknowledge_one(&self) {
        if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.changed.notify_one();
        }
    }
}

/// The result of enqueueing a record.
#[derive(Debug)]
pub(super) enum Enqueued {
    /// The record is on its way.
    Yes,
    /// The queue is full.
    QueueFull,
    /// The producer does not know such a partition.
    UnknownPartition,
}

/// Why records are not published.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    #[error("the producer was abandoned after an earlier failure")]
    Abandoned,
    #[error("Kafka acknowledged no record for {} s", PROGRESS_TIMEOUT.as_secs())]
    NoProgress,
    #[error("Kafka did not accept a record")]
    Undelivered(#[source] KafkaError),
}

/// Receives delivery reports: counts acknowledgements and records the first failure.
#[derive(Default)]
struct DeliveryReports {
    broken: AtomicBool,
    first_error: Mutex<Option<KafkaError>>,
}

impl ClientContext for DeliveryReports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        logging::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        logging::error(&error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for DeliveryReports {
    type DeliveryOpaque = Arc<DeliveryBatch>;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: Arc<DeliveryBatch>) {
        let Err((error, _)) = result else { return batch.acknowledge_one() };
        self.broken.store(true, Ordering::Release);
        self.first_error.lock().get_or_insert_with(|| error.clone());
        batch.failed.store(true, Ordering::Release);
        batch.changed.notify_one();
    }
}

/// A producer that is used until its first failure.
pub(super) struct Producer {
    /// Present until this is dropped.
    producer: Option<ThreadedProducer<DeliveryReports>>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Producer").field("usable", &self.is_usable()).finish_non_exhaustive()
    }
}

impl Producer {
    pub(super) fn open(config: &ClientConfig) -> Result<Self, LogError> {
        let producer = ThreadedProducer::from_config_and_context(config, DeliveryReports::default()).map_err(failed)?;
        Ok(Self { producer: Some(producer) })
    }

    /// False after the first failure.
    pub(super) fn is_usable(&self) -> bool {
        self.producer().is_ok_and(|producer| !producer.context().broken.load(Ordering::Acquire))
    }

    fn producer(&self) -> Result<&ThreadedProducer<DeliveryReports>, LogError> {
        self.producer.as_ref().ok_or_else(|| failed(PublishError::Abandoned))
    }

    /// Enqueues one record, as part of `batch`.
    pub(super) fn enqueue<K, P>(&self, record: BaseRecord<'_, K, P, Arc<DeliveryBatch>>) -> Result<Enqueued, LogError>
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
    {
        let producer = self.producer()?;
        if producer.context().broken.load(Ordering::Acquire) {
            return Err(failed(PublishError::Abandoned));
        }
        record.delivery_opaque.pending.fetch_add(1, Ordering::AcqRel);
        let Err((error, record)) = producer.send(record) else { return Ok(Enqueued::Yes) };
        record.delivery_opaque.pending.fetch_sub(1, Ordering::AcqRel);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Ok(Enqueued::QueueFull),
            Some(RDKafkaErrorCode::UnknownPartition) => Ok(Enqueued::UnknownPartition),
            _ => {
                self.abandon();
                Err(failed(PublishError::Undelivered(error)))
            }
        }
    }

    /// Waits until every record of `batch` is acknowledged.
    pub(super) async fn acknowledged(&self, batch: &DeliveryBatch) -> Result<(), LogError> {
        batch.acknowledge_one();
        loop {
            let before = batch.pending.load(Ordering::Acquire);
            if before <= 0 {
                return Ok(());
            }
            if batch.failed.load(Ordering::Acquire) {
                return Err(failed(self.error()));
            }
            let timed_out = timeout(PROGRESS_TIMEOUT, batch.changed.notified()).await.is_err();
            if timed_out && batch.pending.load(Ordering::Acquire) == before {
                self.abandon();
                return Err(failed(PublishError::NoProgress));
            }
        }
    }

    fn error(&self) -> PublishError {
        let error = self.producer().ok().and_then(|producer| producer.context().first_error.lock().clone());
        error.map_or(PublishError::Abandoned, PublishError::Undelivered)
    }

    /// Accepts no more records from now on.
    pub(super) fn abandon(&self) {
        if let Some(producer) = &self.producer {
            producer.context().broken.store(true, Ordering::Release);
        }
    }

    /// The current number of partitions of `topic`. Asks the cluster, and blocks until it answers.
    pub(super) fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        let metadata = self.producer()?.client().fetch_metadata(Some(topic), QUERY_TIMEOUT).map_err(failed)?;
        partitions_of(&metadata, topic)
    }
}

impl Drop for Producer {
    /// Closes the producer on a thread of its own, because emptying its queues can take half a second.
    fn drop(&mut self) {
        let producer = self.producer.take();
        let _ = thread::Builder::new().name("kafka-close".into()).spawn(move || drop(producer));
    }
}
