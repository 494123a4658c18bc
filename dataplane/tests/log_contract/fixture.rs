//! The adapters behind one type, and helpers of the tests.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use futures::{FutureExt, future::select_all};
use ping_core::{Event, Offset, Partition, Seq, WriterId};
use ping_kafka::{
    FetchProfile, KafkaBounds, KafkaConsumer, KafkaDeadLetters, KafkaProducer, KafkaSettings, ensure_topics,
};
use ping_memory::{MemoryLog, SystemClock};
use ping_ports::{
    Batch, Clock, Committed, ConsumerEvent, DeadContent, DeadLetter, DeadLetterReader, LogBounds, LogConsumer,
    LogError, LogEvent, LogProducer, Malformed, OutboxRow, Record,
};
use rdkafka::{
    Message, Offset as KafkaOffset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer},
    producer::{FutureProducer, FutureRecord},
};
use uuid::Uuid;

pub(crate) const PARTITIONS: u32 = 3;
const TIMEOUT: Duration = Duration::from_secs(30);

/// A log to test.
pub(crate) enum Fixture {
    Memory(MemoryLog),
    Kafka(Box<KafkaSettings>),
}

impl Fixture {
    pub(crate) fn memory() -> Self {
        Self::Memory(MemoryLog::new(PARTITIONS))
    }

    /// A log with topics of its own.
    pub(crate) async fn kafka(brokers: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let settings = KafkaSettings {
            topic: format!("pings-{number}"),
            dead_letter_topic: format!("dead-{number}"),
            group: format!("group-{number}"),
            read_traces: true,
            ..KafkaSettings::new(brokers)
        };
        ensure_topics(&settings, PARTITIONS, 1).await.unwrap();
        Self::Kafka(Box::new(settings))
    }

    /// The same log, read with `FetchProfile::Bulk`.
    pub(crate) fn in_bulk(mut self) -> Self {
        if let Self::Kafka(settings) = &mut self {
            settings.profile = FetchProfile::Bulk;
        }
        self
    }

    pub(crate) fn producer(&self) -> Arc<dyn LogProducer> {
        match self {
            Self::Memory(log) => Arc::new(log.clone()),
            Self::Kafka(settings) => Arc::new(KafkaProducer::new(settings)),
        }
    }

    pub(crate) fn bounds(&self) -> Arc<dyn LogBounds> {
        match self {
            Self::Memory(log) => Arc::new(log.clone()),
            Self::Kafka(settings) => Arc::new(KafkaBounds::new(settings).unwrap()),
        }
    }

    pub(crate) fn join(&self) -> Box<dyn LogConsumer> {
        match self {
            Self::Memory(log) => Box::new(log.subscribe("test")),
            Self::Kafka(settings) => Box::new(KafkaConsumer::new(settings).unwrap()),
        }
    }

    /// Appends a malformed record.
    pub(crate) async fn append(&self, partition: Partition, value: &[u8], why: Malformed) {
        match self {
            Self::Memory(log) => log.append(partition, Err((why, value.to_vec()))),
            Self::Kafka(settings) => {
                let producer: FutureProducer = settings_of(settings).create().unwrap();
                let record = FutureRecord::<(), _>::to(&settings.topic).partition(partition).payload(value);
                producer.send(record, TIMEOUT).await.unwrap();
            }
        }
    }

    /// Deletes the records before `offset`.
    pub(crate) async fn truncate(&self, partition: Partition, offset: Offset) {
        match self {
            Self::Memory(log) => log.truncate(partition, offset),
            Self::Kafka(settings) => {
                let admin: AdminClient<DefaultClientContext> = settings_of(settings).create().unwrap();
                let mut below = TopicPartitionList::new();
                below.add_partition_offset(&settings.topic, partition, KafkaOffset::Offset(offset)).unwrap();
                admin.delete_records(&below, &AdminOptions::new()).await.unwrap();
            }
        }
    }

    /// Reads dead letters.
    pub(crate) fn dead_letter_reader(&self) -> Arc<dyn DeadLetterReader> {
        match self {
            Self::Memory(log) => Arc::new(log.clone()),
            Self::Kafka(settings) => Arc::new(KafkaDeadLetters::new((**settings).clone())),
        }
    }

    /// The values of dead letters, with the partition and offset where they were read.
    pub(crate) async fn dead_letters(&self, count: usize) -> Vec<(String, Vec<u8>)> {
        match self {
            Self::Memory(log) => {
                let letters = log.dead_letters().into_iter();
                let value = |content| match content {
                    DeadContent::Malformed(_, value) => value,
                    DeadContent::Phantom(event) => panic!("a phantom: {event:?}"),
                };
                let place = |letter: &DeadLetter| format!("{}/{}", letter.partition, letter.offset);
                letters.map(|letter| (place(&letter), value(letter.content))).collect()
            }
            Self::Kafka(settings) => {
                let settings = settings.clone();
                tokio::task::spawn_blocking(move || dead_letters(&settings, count)).await.unwrap()
            }
        }
    }
}

pub(crate) fn settings_of(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &settings.brokers);
    config
}

fn dead_letters(settings: &KafkaSettings, count: usize) -> Vec<(String, Vec<u8>)> {
    use rdkafka::message::Headers;
    let consumer: BaseConsumer = settings_of(settings).set("group.id", "dead").create().unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(&settings.dead_letter_topic, 0, KafkaOffset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let mut letters = Vec::new();
    while letters.len() < count {
        let message = consumer.poll(TIMEOUT).unwrap().unwrap();
        let header = |name| {
            let mut headers = message.headers().unwrap().iter();
            String::from_utf8(headers.find(|header| header.key == name).unwrap().value.unwrap().to_vec()).unwrap()
        };
        assert_eq!(header("topic"), settings.topic);
        assert!(!header("reason").is_empty());
        letters.push((format!("{}/{}", header("partition"), header("offset")), message.payload().unwrap().to_vec()));
    }
    letters
}

/// One commit of `count` events, some with a source, some without.
pub(crate) fn row(writer: i64, first_seq: Seq, count: i64, at: i64) -> OutboxRow {
    let source = |seq: Seq| if seq % 4 == 0 { String::new() } else { format!("host-{}", seq % 4) };
    let event = |seq: Seq| Event {
        id: Uuid::from_u128(u128::from(seq.unsigned_abs())),
        timestamp_ms: at,
        timestamp_assumed: false,
        source: source(seq).into(),
        kind: "".into(),
    };
    let batch = Batch {
        writer: WriterId(writer),
        first_seq,
        events: Arc::new((first_seq..first_seq + count).map(event).collect()),
        partitions: PARTITIONS,
        partition: Partition::try_from(first_seq % i64::from(PARTITIONS)).unwrap(),
        lease: Duration::from_secs(10),
    };
    // Kafka's retention uses the time of the commit.
    OutboxRow { batch, committed: Committed { at: SystemClock.now(), known: HashSet::new() }, trace: None }
}

/// Writer and number of the records that `rows` must produce, per partition and in order.
pub(crate) fn expected(rows: &[OutboxRow]) -> BTreeMap<Partition, Vec<(i64, Seq)>> {
    let mut records: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        for (seq, partition, _) in row.records() {
            records.entry(partition).or_default().push((row.batch.writer.0, seq));
        }
    }
    records
}

pub(crate) async fn next(consumer: &mut dyn LogConsumer) -> Result<ConsumerEvent, LogError> {
    tokio::time::timeout(TIMEOUT, consumer.next()).await.expect("no event in time")
}

pub(crate) async fn assigned(consumer: &mut dyn LogConsumer) -> Vec<Partition> {
    loop {
        if let ConsumerEvent::Assigned(mut partitions) = next(consumer).await.unwrap() {
            partitions.sort_unstable();
            return partitions;
        }
    }
}

/// Joins as the only member and starts every partition at `from`.
pub(crate) async fn started(fixture: &Fixture, from: Offset) -> Box<dyn LogConsumer> {
    let mut consumer = fixture.join();
    let partitions = assigned(consumer.as_mut()).await;
    assert_eq!(partitions, (0..Partition::try_from(PARTITIONS).unwrap()).collect::<Vec<_>>());
    consumer.start(&partitions.into_iter().map(|partition| (partition, from)).collect()).await.unwrap();
    consumer
}

pub(crate) async fn records(consumer: &mut dyn LogConsumer, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        match next(consumer).await.unwrap() {
            ConsumerEvent::Records(more) => records.extend(more),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(records.len(), count);
    records
}

/// Writer and number of every record, per partition; offsets must follow each other from `from` on.
pub(crate) fn sorted(records: &[Record], from: Offset) -> BTreeMap<Partition, Vec<(i64, Seq)>> {
    let mut sorted: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for record in records {
        let partition = sorted.entry(record.partition).or_default();
        assert_eq!(record.offset, from + i64::try_from(partition.len()).unwrap());
        let LogEvent { writer, seq, .. } = *record.body.as_ref().unwrap();
        partition.push((writer.0, seq));
    }
    sorted
}

/// Polls all members until every partition belongs to exactly one of them; returns how many each has.
pub(crate) async fn settled(members: &mut [Box<dyn LogConsumer>]) -> Vec<usize> {
    let mut shares = vec![Vec::new(); members.len()];
    let everything: Vec<_> = (0..Partition::try_from(PARTITIONS).unwrap()).collect();
    loop {
        let waiting = members
            .iter_mut()
            .enumerate()
            .map(|(place, member)| async move { (place, next(member.as_mut()).await.unwrap()) }.boxed());
        let ((place, event), ..) = select_all(waiting).await;
        shares[place] = match event {
            ConsumerEvent::Assigned(partitions) => partitions,
            ConsumerEvent::Revoked => Vec::new(),
            ConsumerEvent::Records(_) => panic!("records without a start"),
        };
        let mut all = shares.concat();
        all.sort_unstable();
        if all == everything && shares.iter().all(|share| !share.is_empty()) {
            return shares.iter().map(Vec::len).collect();
        }
    }
}
