//! What the topic of minutes says: one line per minute that is over, with how many events happened in it and from how many
//! sources. Copy it: it needs `rdkafka`, `serde`, `serde_json`, `anyhow`, and `jiff`
//! to print the time.
//!
//! `cargo run -q -p ping-dataplane --example minutes -- localhost:9092 ping-minutes`

use std::{
    collections::BTreeMap,
    env,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{
        KafkaError::{MessageConsumption, PartitionEOF},
        RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure},
    },
};
use serde::Deserialize;

/// How long the broker may take to answer, also when it can't be reached at first.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The value of a record, as JSON; its key is the minute.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Minutes since the Unix epoch.
    pub(crate) minute: i64,
    /// Events that happened in it.
    pub(crate) count: i64,
    /// Sources that they came from.
    pub(crate) unique: i64,
}

/// Calls `each` with every record that is in the topic now, from the oldest: the minute and when it was told of, in
/// milliseconds since the Unix epoch.
///
/// # Errors
/// When the broker does not answer, or says something that is not a summary.
pub(crate) fn read(brokers: &str, topic: &str, mut each: impl FnMut(Summary, i64)) -> anyhow::Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        // Asked for by the client. Nothing is committed: whoever reads a compacted topic begins at its beginning each time.
        .set("group.id", "minutes-example")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    // The topic has one partition.
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&place)?;
    let mut heard = Instant::now();
    loop {
        match consumer.poll(TIMEOUT.saturating_sub(heard.elapsed())) {
            Some(Ok(record)) => {
                heard = Instant::now();
                // A tombstone would say nothing; nobody writes one here.
                let Some(value) = record.payload() else { continue };
                each(serde_json::from_slice(value)?, record.timestamp().to_millis().unwrap_or_default());
            }
            // The end, for now. To go on listening, go on polling.
            Some(Err(PartitionEOF(_))) => return Ok(()),
            // No connection to any broker, for now: the client goes on connecting by itself.
            Some(Err(MessageConsumption(AllBrokersDown | BrokerTransportFailure))) => {}
            Some(Err(error)) => return Err(error.into()),
            None => anyhow::bail!("{brokers} does not answer"),
        }
    }
}

/// The last word on each minute. A minute is told of again when a processor took over, or when an event came late; the newer
/// record replaces the older one. Compaction does the same to the topic, some time later: so every reader does it, too.
///
/// # Errors
/// As [`read`].
pub(crate) fn last_words(brokers: &str, topic: &str) -> anyhow::Result<BTreeMap<i64, Summary>> {
    let mut minutes = BTreeMap::new();
    read(brokers, topic, |summary, _| {
        minutes.insert(summary.minute, summary);
    })?;
    Ok(minutes)
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let brokers = args.next().unwrap_or_else(|| "localhost:9092".into());
    let topic = args.next().unwrap_or_else(|| "ping-minutes".into());
    for Summary { minute, count, unique } in last_words(&brokers, &topic)?.into_values() {
        println!("{} {count} events from {unique} sources", jiff::Timestamp::from_second(minute * 60)?);
    }
    Ok(())
}
