//! Reading as a member of the group of processors. The group assigns the partitions. The cache decides where to start; the offsets
//! that Kafka stores are never read.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    panic::{self, AssertUnwindSafe},
    pin::{Pin, pin},
    sync::mpsc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use futures::{Stream, future::poll_fn};
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer, ConsumerContext, MessageStream, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers},
    types::RDKafkaRespErr,
};

use super::{KafkaSettings, failed, logging, record};
use ping_core::Partition;
use ping_ports::{ConsumerEvent, LogConsumer, LogError, Record, TraceContext};

/// Maximum number of records per event.
const MAX_RECORDS: usize = 1_000;
/// How long leaving the group may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// A member of the group.
pub struct KafkaConsumer {
    topic: String,
    config: ClientConfig,
    read_traces: bool,
    /// Absent after leaving the group, until the next call joins it again.
    consumer: Option<StreamConsumer<Membership>>,
    /// An error that was received after records which are returned first.
    failure: Option<KafkaError>,
}

impl fmt::Debug for KafkaConsumer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KafkaConsumer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Changes of the assignment that the processor has not received yet.
#[derive(Default)]
struct Membership(Mutex<VecDeque<ConsumerEvent>>);

impl Membership {
    fn next(&self) -> Option<ConsumerEvent> {
        self.0.lock().pop_front()
    }
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        logging::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        logging::error(&error, reason);
    }
}

impl ConsumerContext for Membership {
    /// Called while polling. Nothing is fetched before `start` sets the offsets. Until then the member has an empty assignment, so
    /// that the group can rebalance without waiting for the cache to answer.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let assign = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let _ = if assign { consumer.assign(&TopicPartitionList::new()) } else { consumer.unassign() };
        let assigned = assign && partitions.count() > 0;
        self.0.lock().push_back(if assigned {
            ConsumerEvent::Assigned(partitions.elements().iter().map(|element| element.partition()).collect())
        } else {
            ConsumerEvent::Revoked
        });
    }
}

impl KafkaConsumer {
    /// Joins the group; leaves it when dropped.
    ///
    /// # Errors
    /// When librdkafka does not accept the settings.
    pub fn new(settings: &KafkaSettings) -> Result<Self, LogError> {
        let mut config = settings.client();
        config
            .set("group.id", &settings.group)
            // An eager assignor: each rebalance assigns all partitions again, and `Assigned` lists all of this member.
            .set("partition.assignment.strategy", "range")
            // A killed processor's partitions move within six seconds, the lowest value that brokers allow by default.
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "1500")
            // A processor that does not poll, because its cache is unavailable, delays a rebalance for a minute at most.
            .set("max.poll.interval.ms", "60000")
            // An offset that is no longer in the log is an error: the processor then rebuilds the cache.
            .set("auto.offset.reset", "error")
            // Offsets are committed for lag dashboards, once a second, and only those passed to `commit`.
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_uncommitted")
            .set("fetch.error.backoff.ms", "100")
            // Each queued record costs librdkafka about 400 bytes, so the queue is short and refilled at once.
            .set("queued.min.messages", "20000")
            .set("queued.max.messages.kbytes", "8192")
            .set("fetch.message.max.bytes", "262144")
            .set("fetch.queue.backoff.ms", "2");
        for (name, value) in settings.profile.settings() {
            config.set(*name, *value);
        }
        let mut reader = Self {
            topic: settings.topic.clone(),
            config,
            read_traces: settings.read_traces,
            consumer: None,
            failure: None,
        };
        reader.join()?;
        Ok(reader)
    }

    fn join(&mut self) -> Result<(), LogError> {
        let consumer = StreamConsumer::from_config_and_context(&self.config, Membership::default()).map_err(failed)?;
        consumer.subscribe(&[&self.topic]).map_err(failed)?;
        self.consumer = Some(consumer);
        Ok(())
    }

    fn leave(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        // Leaving sends a request to the broker; without a broker it would block until the request times out.
        let (left, wait) = mpsc::channel::<()>();
        let leave = move || {
            drop(consumer);
            drop(left);
        };
        if thread::Builder::new().name("kafka-leave".into()).spawn(leave).is_ok() {
            let _ = wait.recv_timeout(SHUTDOWN_TIMEOUT);
        }
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.leave();
    }
}

fn not_joined() -> LogError {
    LogError("the consumer has left the group".into())
}

/// The record of a message, without the span that published it.
pub(super) fn record(message: &BorrowedMessage<'_>) -> Record {
    let value = message.payload().unwrap_or_default();
    Record {
        partition: message.partition(),
        offset: message.offset(),
        trace: None,
        body: record::decode(value).map_err(|why| (why, value.to_vec())),
    }
}

/// The span that published a message, if it carries that.
fn trace(message: &BorrowedMessage<'_>) -> Option<TraceContext> {
    let headers = message.headers()?;
    let find = || {
        let value = headers.iter().find(|header| header.key == TraceContext::HEADER)?.value?;
        TraceContext::new(str::from_utf8(value).ok()?)
    };
    // rdkafka panics if a name is not UTF-8, and another program may have published the record.
    panic::catch_unwind(AssertUnwindSafe(find)).ok()?
}

/// Whether librdkafka recovers from `error` by itself. It has logged the error.
fn is_transient(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator,
        OperationTimedOut, PollExceeded, RequestTimedOut, Resolve,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(
            AllBrokersDown
                | BrokerTransportFailure
                | CoordinatorLoadInProgress
                | CoordinatorNotAvailable
                | NotCoordinator
                | OperationTimedOut
                | PollExceeded
                | RequestTimedOut
                | Resolve
        )
    )
}

/// Takes what is available. Nothing is held across a wait, so dropping the future loses nothing.
fn poll(
    mut stream: Pin<&mut MessageStream<'_, Membership>>,
    membership: &Membership,
    read_traces: bool,
    failure: &mut Option<KafkaError>,
    context: &mut Context<'_>,
) -> Poll<Result<ConsumerEvent, LogError>> {
    let mut records = Vec::new();
    while failure.is_none() && records.len() < MAX_RECORDS {
        match stream.as_mut().poll_next(context) {
            Poll::Ready(Some(Ok(message))) => {
                let trace = if read_traces { trace(&message) } else { None };
                records.push(Record { trace, ..record(&message) });
            }
            Poll::Ready(Some(Err(error))) => *failure = Some(error).filter(|error| !is_transient(error)),
            Poll::Ready(None) | Poll::Pending => break,
        }
    }
    if !records.is_empty() {
        return Poll::Ready(Ok(ConsumerEvent::Records(records)));
    }
    // Polling may have called `rebalance`.
    if let Some(event) = membership.next() {
        return Poll::Ready(Ok(event));
    }
    match failure.take() {
        Some(error) => Poll::Ready(Err(failed(error))),
        None => Poll::Pending,
    }
}

#[async_trait]
impl LogConsumer for KafkaConsumer {
    async fn next(&mut self) -> Result<ConsumerEvent, LogError> {
        if self.consumer.is_none() {
            self.join()?;
        }
        let Self { consumer: Some(consumer), failure, read_traces, .. } = self else { return Err(not_joined()) };
        if let Some(event) = consumer.context().next() {
            return Ok(event);
        }
        let result = {
            let mut stream = pin!(consumer.stream());
            poll_fn(|context| poll(stream.as_mut(), consumer.context(), *read_traces, failure, context)).await
        };
        if consumer.client().fatal_error().is_some() {
            // A fatal error is permanent; the next call joins again with a new consumer.
            self.leave();
        }
        result
    }

    async fn start(&mut self, offsets: &BTreeMap<Partition, ping_core::Offset>) -> Result<(), LogError> {
        self.failure = None;
        let consumer = self.consumer.as_ref().ok_or_else(not_joined)?;
        let mut partitions = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            partitions.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset)).map_err(failed)?;
        }
        // librdkafka 2.12 aborts when an assignment replaces one whose partitions it is still stopping (its issue 5573, fixed after
        // 2.15). With `unassign` first, it has stopped them by the time it answers `assign`.
        consumer.unassign().map_err(failed)?;
        // When this returns, records that were fetched before are invalid: librdkafka drops them at the head of its queue.
        consumer.assign(&partitions).map_err(failed)
    }

    /// Stores the offsets; librdkafka commits them once a second. Errors are ignored, because no offset is ever read back.
    fn commit(&self, offsets: &BTreeMap<Partition, ping_core::Offset>) {
        let Some(consumer) = &self.consumer else { return };
        let mut partitions = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            let _ = partitions.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset));
        }
        let _ = consumer.store_offsets(&partitions);
    }
}
