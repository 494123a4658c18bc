//! Reads the topic of minute summaries and prints one line per closed minute: how many events happened in it, from how many sources.
//!
//! To use it in a program of your own, copy it; it needs `rdkafka`, `serde`, `serde_json`, `anyhow`, and `jiff` to print the time.
//!
//! `cargo run -q -p pingd --example minutes -- localhost:9092 ping-minutes`

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

/// Longest time without a response from a broker, including the time to connect.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The value of a record, as JSON. The record's key is the minute.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Minutes since the Unix epoch.
    pub(crate) minute: i64,
    /// Number of events that happened in the minute.
    pub(crate) count: i64,
    /// Number of distinct sources of these events.
    pub(crate) unique: i64,
}

/// Calls `each` with every record in the topic, oldest first: the summary and when it was published, in milliseconds since the Unix
/// epoch.
///
/// # Errors
/// When no broker responds within 10 seconds, or a record is not a summary.
pub(crate) fn read(brokers: &str, topic: &str, mut each: impl FnMut(Summary, i64)) -> anyhow::Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        // The client requires a group. It commits no offsets, because readers of a compacted topic start at the beginning.
        .set("group.id", "minutes-example")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    // The topic has one partition.
    let mut position = TopicPartitionList::new();
    position.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&position)?;
    let mut last_response = Instant::now();
    loop {
        match consumer.poll(TIMEOUT.saturating_sub(last_response.elapsed())) {
            Some(Ok(record)) => {
                last_response = Instant::now();
                // Skip tombstones: they have no value, and this pipeline writes none.
                let Some(value) = record.payload() else { continue };
                each(serde_json::from_slice(value)?, record.timestamp().to_millis().unwrap_or_default());
            }
            // The end of the topic for now. To follow it, continue polling.
            Some(Err(PartitionEOF(_))) => return Ok(()),
            // No broker is reachable. The client keeps connecting in the background.
            Some(Err(MessageConsumption(AllBrokersDown | BrokerTransportFailure))) => {}
            Some(Err(error)) => return Err(error.into()),
            None => anyhow::bail!("no response from {brokers} within {} s", TIMEOUT.as_secs()),
        }
    }
}

/// The latest summary of each minute. A minute is published again after a processor takes over or when a late event arrives, and the
/// newer record replaces the older one. Compaction removes the older record only later, so readers must do the same.
///
/// # Errors
/// As [`read`].
pub(crate) fn latest(brokers: &str, topic: &str) -> anyhow::Result<BTreeMap<i64, Summary>> {
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
    for Summary { minute, count, unique } in latest(&brokers, &topic)?.into_values() {
        println!("{} {count} events from {unique} sources", jiff::Timestamp::from_second(minute * 60)?);
    }
    Ok(())
}
