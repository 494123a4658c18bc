//! Faults of producers and brokers: order and completeness survive them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ping_core::Seq;
use ping_kafka::{KafkaProducer, KafkaSettings};
use ping_ports::{ConsumerEvent, LogProducer, OutboxRow};
use ping_testbed::Kafka;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rdkafka::{
    Offset as KafkaOffset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
};
use tokio::time::{Instant, sleep, timeout};

use crate::fixture::{Fixture, expected, next, row, settings_of, started};

const ROWS: usize = 25;
const EVENTS: i64 = 3_000;

fn settings(fixture: &Fixture) -> &KafkaSettings {
    let Fixture::Kafka(settings) = fixture else { panic!("not Kafka") };
    settings
}

/// A publisher that cancels calls at random, and continues with the first row that it does not know to be published.
async fn publish(producer: Arc<KafkaProducer>, rows: Vec<OutboxRow>, mut random: StdRng) -> usize {
    let (mut published, mut failures) = (0, 0);
    while published < rows.len() {
        let upto = rows.len().min(published + random.random_range(1..5));
        let limit = Duration::from_millis(if random.random_bool(0.5) { random.random_range(0..25) } else { 10_000 });
        match timeout(limit, producer.publish(rows[published..upto].to_vec())).await {
            Ok(Ok(())) => published = upto,
            Ok(Err(_)) | Err(_) => failures += 1,
        }
        sleep(Duration::from_millis(random.random_range(0..5))).await;
    }
    failures
}

/// Breaks the shared producer repeatedly: Kafka rejects this event, which is fatal to a gapless producer.
async fn poison(producer: Arc<KafkaProducer>, mut random: StdRng) {
    loop {
        sleep(Duration::from_millis(random.random_range(0..80))).await;
        let mut row = row(666, 1, 1, 5);
        let large: String = (0..900_000).map(|_| char::from(random.random_range(32..127_u8))).collect();
        let event = ping_core::Event { source: "".into(), kind: large.into(), ..row.batch.events[0].clone() };
        row.batch.events = Arc::new(vec![event]);
        let refused = producer.publish(vec![row]).await;
        assert!(refused.is_err());
    }
}

async fn limit_batches(settings: &KafkaSettings) {
    let admin: AdminClient<DefaultClientContext> = settings_of(settings).create().unwrap();
    let topic = AlterConfig::new(ResourceSpecifier::Topic(&settings.topic)).set("max.message.bytes", "400000");
    admin.alter_configs([&topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
}

/// Every record of the topic: writer and number, per partition.
async fn everything(fixture: &Fixture) -> BTreeMap<i32, Vec<(i64, Seq)>> {
    let bounds = fixture.bounds().bounds().await.unwrap();
    let total: i64 = bounds.values().map(|bounds| bounds.end).sum();
    let mut consumer = started(fixture, 0).await;
    let mut read: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut count = 0;
    while count < total {
        let ConsumerEvent::Records(records) = next(consumer.as_mut()).await.unwrap() else {
            panic!("lost the partitions")
        };
        for record in records {
            count += 1;
            let event = record.body.unwrap();
            read.entry(record.partition).or_default().push((event.writer.0, event.seq));
        }
    }
    read
}

/// The numbers of `writer` in the order in which they appear for the first time.
fn first_appearances(records: &[(i64, Seq)], writer: i64) -> Vec<Seq> {
    let mut seen = std::collections::BTreeSet::new();
    records.iter().filter(|(of, seq)| *of == writer && seen.insert(*seq)).map(|(_, seq)| *seq).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_breaks_every_number_first_appears_in_order() {
    let mut server = Kafka::start().await.unwrap();
    let fixture = Fixture::kafka(&server.brokers()).await;
    limit_batches(settings(&fixture)).await;
    let producer = Arc::new(KafkaProducer::new(settings(&fixture)));
    let rows = |writer: i64| -> Vec<_> {
        (0..ROWS).map(|place| row(writer, 1 + i64::try_from(place).unwrap() * EVENTS, EVENTS, 5)).collect()
    };
    let seed = u64::from(rand::random::<u32>());
    println!("seed {seed}");
    let random = |more: u64| StdRng::seed_from_u64(seed + more);
    let poison = tokio::spawn(poison(Arc::clone(&producer), random(0)));
    let writers: Vec<_> = (1..=3)
        .map(|writer| tokio::spawn(publish(Arc::clone(&producer), rows(writer), random(writer.unsigned_abs()))))
        .collect();
    sleep(Duration::from_millis(400)).await;
    server.kill_9().await.unwrap();
    server.restart().await.unwrap();
    let mut failures = 0;
    for writer in writers {
        failures += writer.await.unwrap();
    }
    poison.abort();
    assert!(failures > 20, "too few failures to mean anything: {failures}");

    let read = everything(&fixture).await;
    let total: usize = read.values().map(Vec::len).sum();
    println!("{failures} failures, {total} records of {}", 3 * ROWS * usize::try_from(EVENTS).unwrap());
    for writer in 1..=3 {
        for (partition, expected) in expected(&rows(writer)) {
            let expected: Vec<_> = expected.into_iter().map(|(_, seq)| seq).collect();
            assert_eq!(
                first_appearances(&read[&partition], writer),
                expected,
                "writer {writer}, partition {partition}"
            );
        }
    }
}

#[tokio::test]
async fn a_restarted_broker_is_found_again_and_a_dead_one_can_be_left() {
    let mut server = Kafka::start().await.unwrap();
    let fixture = Fixture::kafka(&server.brokers()).await;
    let producer = KafkaProducer::new(settings(&fixture));
    producer.publish(vec![row(7, 1, 10, 5)]).await.unwrap();
    let mut consumer = started(&fixture, 0).await;
    let mut count = 0;
    while count < 10 {
        let ConsumerEvent::Records(records) = next(consumer.as_mut()).await.unwrap() else { panic!("no records") };
        count += records.len();
    }
    server.kill_9().await.unwrap();
    // Shorter than the session time-out, so that the partitions stay assigned.
    let waiting = timeout(Duration::from_secs(3), consumer.next()).await;
    assert!(waiting.is_err(), "{waiting:?}");
    assert!(fixture.bounds().bounds().await.is_err());
    server.restart().await.unwrap();
    let back = Instant::now();
    let (published, ()) = tokio::join!(producer.publish(vec![row(7, 11, 10, 5)]), async {
        while count < 20 {
            match next(consumer.as_mut()).await.unwrap() {
                ConsumerEvent::Records(records) => count += records.len(),
                // The group may have been rebalanced in the meantime.
                ConsumerEvent::Assigned(partitions) => {
                    count = 0;
                    consumer.start(&partitions.into_iter().map(|partition| (partition, 0)).collect()).await.unwrap();
                }
                ConsumerEvent::Revoked => {}
            }
        }
    });
    published.unwrap();
    server.kill_9().await.unwrap();
    let leaving = Instant::now();
    drop(consumer);
    drop(producer);
    assert!(leaving.elapsed() < Duration::from_secs(30), "{:?}", leaving.elapsed());
    assert!(back.elapsed() < Duration::from_secs(60), "{:?}", back.elapsed());
}

/// Committed offsets are for dashboards only: they do not affect where a member starts.
#[tokio::test]
async fn committed_offsets_are_visible_and_never_used() {
    let server = Kafka::start().await.unwrap();
    let fixture = Fixture::kafka(&server.brokers()).await;
    KafkaProducer::new(settings(&fixture)).publish(vec![row(7, 1, 100, 5)]).await.unwrap();
    let mut consumer = started(&fixture, 0).await;
    consumer.commit(&BTreeMap::from([(1, 20)]));
    let mut config = settings_of(settings(&fixture));
    let dashboard: BaseConsumer = config.set("group.id", &settings(&fixture).group).create().unwrap();
    let topic = settings(&fixture).topic.clone();
    let committed = tokio::task::spawn_blocking(move || {
        let mut request = TopicPartitionList::new();
        request.add_partition(&topic, 1);
        for _ in 0..50 {
            let answer = dashboard.committed_offsets(request.clone(), Duration::from_secs(5)).unwrap();
            if answer.elements()[0].offset() != KafkaOffset::Invalid {
                return answer.elements()[0].offset();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        KafkaOffset::Invalid
    });
    assert_eq!(committed.await.unwrap(), KafkaOffset::Offset(20));
    drop(consumer);
    consumer = started(&fixture, 0).await;
    let ConsumerEvent::Records(records) = next(consumer.as_mut()).await.unwrap() else { panic!("no records") };
    assert_eq!(records[0].offset, 0);
}
