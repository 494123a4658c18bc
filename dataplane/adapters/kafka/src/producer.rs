//! One producer, from its creation to its first failure.
//!
//! The promise behind publishing is about runs: on every partition, the events of one writer appear in runs that ascend
//! without gaps, each starting at or before the first event that is not published; so every number *first* appears in
//! ascending order. A line keeps it: what enters it leaves it in order (idempotence), nothing is left out before something
//! that arrives (gapless guarantee), and after the first failure nothing enters any more. What is still inside when a line is
//! given up may arrive or not, now or a little later; it is the continuation of a run without gaps either way, and the run
//! that repeats it on the next line starts before it. So lines may even overlap, and a publisher that went away in the middle
//! leaves a shorter run behind, nothing worse.

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

use super::{ANSWER, failed, logging, topics::partitions_of};
use ping_ports::LogError;

/// A call whose records make no progress for this long has failed.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

/// Records that were handed over together.
#[derive(Debug)]
pub(super) struct DeliveryBatch {
    /// Not acknowledged yet; one more while the call is still handing over.
    waiting: AtomicI64,
    failed: AtomicBool,
    changed: Notify,
}

impl DeliveryBatch {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { waiting: AtomicI64::new(1), failed: AtomicBool::new(false), changed: Notify::new() })
    }

    fn settle(&self) {
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.changed.notify_one();
        }
    }
}

/// What became of an attempt to hand a record over.
#[derive(Debug)]
pub(super) enum Handed {
    /// It is on its way.
    Over,
    /// There is no room now.
    Full,
    /// The topic has no such partition, as far as the producer knows.
    NoPartition,
}

/// Why records are not published.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the producer was given up after an earlier failure")]
    Before,
    #[error("no record was acknowledged for {} s", TIMEOUT.as_secs())]
    Silent,
    #[error("a record was not delivered")]
    Undelivered(#[source] KafkaError),
}

/// Counts acknowledgements; notices the first failure.
#[derive(Default)]
struct Reports {
    broken: AtomicBool,
    why: Mutex<Option<KafkaError>>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        logging::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        logging::error(&error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Reports {
    type DeliveryOpaque = Arc<DeliveryBatch>;

    fn delivery(&self, result: &DeliveryResult<'_>, call: Arc<DeliveryBatch>) {
        let Err((error, _)) = result else { return call.settle() };
        self.broken.store(true, Ordering::Release);
        self.why.lock().get_or_insert_with(|| error.clone());
        call.failed.store(true, Ordering::Release);
        call.changed.notify_one();
    }
}

/// One producer, from its creation to its first failure.
pub(super) struct Producer {
    /// There until the line is dropped.
    producer: Option<ThreadedProducer<Reports>>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Producer").field("usable", &self.is_usable()).finish_non_exhaustive()
    }
}

impl Producer {
    pub(super) fn open(config: &ClientConfig) -> Result<Self, LogError> {
        let producer = ThreadedProducer::from_config_and_context(config, Reports::default()).map_err(failed)?;
        Ok(Self { producer: Some(producer) })
    }

    /// False after the first failure.
    pub(super) fn is_usable(&self) -> bool {
        self.producer().is_ok_and(|producer| !producer.context().broken.load(Ordering::Acquire))
    }

    fn producer(&self) -> Result<&ThreadedProducer<Reports>, LogError> {
        self.producer.as_ref().ok_or_else(|| failed(Broken::Before))
    }

    /// Hands one record over, as part of `call`.
    pub(super) fn hand<K, P>(&self, record: BaseRecord<'_, K, P, Arc<DeliveryBatch>>) -> Result<Handed, LogError>
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
    {
        let producer = self.producer()?;
        if producer.context().broken.load(Ordering::Acquire) {
            return Err(failed(Broken::Before));
        }
        record.delivery_opaque.waiting.fetch_add(1, Ordering::AcqRel);
        let Err((error, record)) = producer.send(record) else { return Ok(Handed::Over) };
        record.delivery_opaque.waiting.fetch_sub(1, Ordering::AcqRel);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Ok(Handed::Full),
            Some(RDKafkaErrorCode::UnknownPartition) => Ok(Handed::NoPartition),
            _ => {
                self.give_up();
                Err(failed(Broken::Undelivered(error)))
            }
        }
    }

    /// Waits until everything handed over as part of `call` is acknowledged.
    pub(super) async fn acknowledged(&self, call: &DeliveryBatch) -> Result<(), LogError> {
        call.settle();
        loop {
            let before = call.waiting.load(Ordering::Acquire);
            if before <= 0 {
                return Ok(());
            }
            if call.failed.load(Ordering::Acquire) {
                return Err(failed(self.why()));
            }
            let silent = timeout(TIMEOUT, call.changed.notified()).await.is_err();
            if silent && call.waiting.load(Ordering::Acquire) == before {
                self.give_up();
                return Err(failed(Broken::Silent));
            }
        }
    }

    fn why(&self) -> Broken {
        let why = self.producer().ok().and_then(|producer| producer.context().why.lock().clone());
        why.map_or(Broken::Before, Broken::Undelivered)
    }

    /// From now on nothing enters.
    pub(super) fn give_up(&self) {
        if let Some(producer) = &self.producer {
            producer.context().broken.store(true, Ordering::Release);
        }
    }

    /// How many partitions `topic` has now; asks the cluster, and blocks meanwhile.
    pub(super) fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        let metadata = self.producer()?.client().fetch_metadata(Some(topic), ANSWER).map_err(failed)?;
        partitions_of(&metadata, topic)
    }
}

impl Drop for Producer {
    /// Empties the queues first, which can take half a second.
    fn drop(&mut self) {
        let producer = self.producer.take();
        let _ = thread::Builder::new().name("kafka-farewell".into()).spawn(move || drop(producer));
    }
}
