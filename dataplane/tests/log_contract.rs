//! The contract of every log: one body per promise, one test per adapter.
#![cfg(test)]

#[path = "log_contract/faults.rs"]
mod faults;
#[path = "log_contract/fixture.rs"]
mod fixture;

use std::collections::BTreeMap;

use fixture::{Fixture, PARTITIONS, assigned, expected, next, records, row, settled, sorted, started};
use futures::FutureExt;
use ping_core::{Partition, WriterId};
use ping_ports::{
    ConsumerEvent, DeadContent, DeadLetter, LetterPage, LetterQuery, LogEvent, Malformed, OutboxRow, Record,
    StoredLetter, TraceContext,
};
use ping_testbed::Kafka;

macro_rules! contract {
    ($($promise:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::Fixture::memory()).await;
            })*
        }

        /// One broker serves all promises.
        #[tokio::test]
        async fn kafka_keeps_every_promise() {
            let server = Kafka::start().await.unwrap();
            $(println!(stringify!($promise));
            $promise(Fixture::kafka(&server.brokers()).await).await;)*
        }
    };
}

contract! {
    members_share_the_partitions
    records_keep_their_order_on_every_partition
    a_topic_reports_its_partitions
    reading_starts_at_any_offset
    no_record_of_the_previous_start_follows_a_start
    starts_may_follow_each_other_immediately
    a_future_that_is_dropped_loses_nothing
    a_revoked_member_reads_nothing
    the_end_is_beyond_everything_published
    a_malformed_record_is_returned_with_its_reason
    bulk_reading_continues_after_a_record_larger_than_an_answer
    an_offset_that_is_gone_is_an_error
    single_records_are_read
    dead_letters_can_be_read
    a_trace_is_carried_by_each_partition_of_its_batch
    dead_letters_are_read_in_pages
}

async fn records_keep_their_order_on_every_partition(fixture: Fixture) {
    let producer = fixture.producer();
    let rows: Vec<_> = (0..10).map(|batch| row(7, 1 + batch * 50, 50, 5)).collect();
    for rows in rows.chunks(3) {
        producer.publish(rows.to_vec()).await.unwrap();
    }
    let mut consumer = started(&fixture, 0).await;
    let read = records(consumer.as_mut(), 500).await;
    assert_eq!(sorted(&read, 0), expected(&rows));
    assert!(read.iter().all(|record| record.body.as_ref().unwrap().timestamp_ms == 5));
}

async fn a_topic_reports_its_partitions(fixture: Fixture) {
    assert_eq!(fixture.producer().partitions().await.unwrap(), PARTITIONS);
    assert_eq!(fixture.bounds().bounds().await.unwrap().len(), PARTITIONS as usize);
}

/// Every partition has `count` records of writer 1.
async fn filled(fixture: &Fixture, count: i64) {
    let rows = (0..i64::from(PARTITIONS)).map(|partition| {
        let mut row = row(1, partition + i64::from(PARTITIONS) * count, count, 5);
        let events = row.batch.events.iter().cloned();
        row.batch.events =
            std::sync::Arc::new(events.map(|event| ping_core::Event { source: "".into(), ..event }).collect());
        row
    });
    fixture.producer().publish(rows.collect()).await.unwrap();
}

async fn reading_starts_at_any_offset(fixture: Fixture) {
    filled(&fixture, 100).await;
    let mut consumer = fixture.join();
    assigned(consumer.as_mut()).await;
    consumer.start(&BTreeMap::from([(0, 99), (1, 40), (2, 100)])).await.unwrap();
    let read = records(consumer.as_mut(), 61).await;
    let first =
        |partition: Partition| read.iter().find(|record| record.partition == partition).map(|record| record.offset);
    assert_eq!((first(0), first(1), first(2)), (Some(99), Some(40), None));
}

async fn no_record_of_the_previous_start_follows_a_start(fixture: Fixture) {
    filled(&fixture, 5_000).await;
    let mut consumer = started(&fixture, 0).await;
    for offset in [4_000, 7, 4_500, 4_999, 0, 2_500] {
        // Records are in flight when the consumer starts again.
        assert!(matches!(next(consumer.as_mut()).await.unwrap(), ConsumerEvent::Records(_)));
        let from = (0..Partition::try_from(PARTITIONS).unwrap()).map(|partition| (partition, offset)).collect();
        consumer.start(&from).await.unwrap();
        let mut expected = from;
        for _ in 0..4 {
            let ConsumerEvent::Records(read) = next(consumer.as_mut()).await.unwrap() else { panic!("no records") };
            for record in read {
                let next = expected.get_mut(&record.partition).unwrap();
                assert_eq!(record.offset, *next, "after a start at {offset}");
                *next += 1;
            }
            if expected.values().all(|next| *next == 5_000) {
                break;
            }
        }
        consumer.start(&(0..3).map(|partition| (partition, 0)).collect()).await.unwrap();
    }
}

/// This happens when a cache or a broker is restarted. librdkafka 2.12 aborts the process when it is told to stop a partition that it
/// is still stopping (its issue 5573).
async fn starts_may_follow_each_other_immediately(fixture: Fixture) {
    filled(&fixture, 100).await;
    let mut consumer = started(&fixture, 0).await;
    for round in 0..500 {
        let offset = round % 90;
        consumer.start(&(0..3).map(|partition| (partition, offset)).collect()).await.unwrap();
        if round % 50 == 49 {
            let read = records(consumer.as_mut(), 3 * usize::try_from(100 - offset).unwrap()).await;
            assert_eq!(sorted(&read, offset).len(), 3);
        }
    }
}

async fn a_future_that_is_dropped_loses_nothing(fixture: Fixture) {
    let producer = fixture.producer();
    let mut consumer = started(&fixture, 0).await;
    let rows: Vec<_> = (0..20).map(|batch| row(7, 1 + batch * 50, 50, 5)).collect();
    let publishing = async {
        for row in &rows {
            producer.publish(vec![row.clone()]).await.unwrap();
        }
    };
    let reading = async {
        let mut read = Vec::new();
        while read.len() < 1_000 {
            tokio::task::yield_now().await;
            match consumer.next().now_or_never() {
                Some(Ok(ConsumerEvent::Records(more))) => read.extend(more),
                Some(other) => panic!("{other:?}"),
                None => tokio::time::sleep(std::time::Duration::from_micros(300)).await,
            }
        }
        read
    };
    let ((), read) = tokio::join!(publishing, reading);
    assert_eq!(sorted(&read, 0), expected(&rows));
}

async fn members_share_the_partitions(fixture: Fixture) {
    let mut members = vec![fixture.join()];
    assert_eq!(settled(&mut members).await, [3]);
    members.push(fixture.join());
    let mut shares = settled(&mut members).await;
    shares.sort_unstable();
    assert_eq!(shares, [1, 2]);
    members.remove(0);
    assert_eq!(settled(&mut members).await, [3]);
}

async fn a_revoked_member_reads_nothing(fixture: Fixture) {
    filled(&fixture, 2_000).await;
    let mut first = started(&fixture, 0).await;
    assert!(matches!(next(first.as_mut()).await.unwrap(), ConsumerEvent::Records(_)));
    let mut second = fixture.join();
    // The second member can only get partitions that the first one knows to be revoked.
    let rebalanced = async {
        loop {
            match next(first.as_mut()).await.unwrap() {
                ConsumerEvent::Assigned(partitions) => return partitions,
                ConsumerEvent::Revoked => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                ConsumerEvent::Records(_) => {}
            }
        }
    };
    let (left, right) = tokio::join!(rebalanced, assigned(second.as_mut()));
    assert_eq!(left.len() + right.len(), PARTITIONS as usize);
    let silence = std::time::Duration::from_millis(500);
    assert!(tokio::time::timeout(silence, first.next()).await.is_err(), "records without a start");
}

async fn the_end_is_beyond_everything_published(fixture: Fixture) {
    let (producer, bounds) = (fixture.producer(), fixture.bounds());
    let mut rows: Vec<OutboxRow> = Vec::new();
    for batch in 0..20 {
        rows.push(row(7, 1 + batch * 10, 10, 5));
        producer.publish(vec![rows[rows.len() - 1].clone()]).await.unwrap();
        let expected = expected(&rows);
        for (partition, bounds) in bounds.bounds().await.unwrap() {
            let published = expected.get(&partition).map_or(0, Vec::len);
            assert_eq!((bounds.low, bounds.end), (0, i64::try_from(published).unwrap()));
        }
    }
}

async fn a_malformed_record_is_returned_with_its_reason(fixture: Fixture) {
    fixture.append(0, b"{\"json\": 1}", Malformed::Undecodable).await;
    fixture.append(1, b"\x10\x05", Malformed::Foreign).await;
    fixture.producer().publish(vec![row(7, 1, 1, 5)]).await.unwrap();
    let mut consumer = started(&fixture, 0).await;
    let mut read = records(consumer.as_mut(), 3).await;
    read.sort_by_key(|record| record.body.is_ok());
    let bodies: BTreeMap<_, _> =
        read[..2].iter().map(|record| (record.partition, record.body.clone().unwrap_err())).collect();
    assert_eq!(bodies[&0], (Malformed::Undecodable, b"{\"json\": 1}".to_vec()));
    assert_eq!(bodies[&1], (Malformed::Foreign, b"\x10\x05".to_vec()));
    assert!(read[2].body.is_ok());
}

async fn bulk_reading_continues_after_a_record_larger_than_an_answer(fixture: Fixture) {
    let fixture = fixture.in_bulk();
    let large = vec![b'{'; 900_000];
    fixture.append(0, &large, Malformed::Undecodable).await;
    filled(&fixture, 10_000).await;
    let mut consumer = started(&fixture, 0).await;
    let read = records(consumer.as_mut(), 30_001).await;
    let refused: Vec<_> = read.into_iter().filter_map(|record| record.body.err()).collect();
    assert!(refused == [(Malformed::Undecodable, large)], "{} are refused", refused.len());
}

async fn an_offset_that_is_gone_is_an_error(fixture: Fixture) {
    filled(&fixture, 100).await;
    fixture.truncate(1, 60).await;
    let bounds = fixture.bounds().bounds().await.unwrap();
    assert_eq!((bounds[&1].low, bounds[&1].end, bounds[&0].low), (60, 100, 0));
    let mut consumer = fixture.join();
    assigned(consumer.as_mut()).await;
    consumer.start(&BTreeMap::from([(0, 100), (1, 59), (2, 100)])).await.unwrap();
    assert!(next(consumer.as_mut()).await.is_err());
    consumer.start(&BTreeMap::from([(0, 100), (1, 60), (2, 100)])).await.unwrap();
    assert_eq!(records(consumer.as_mut(), 40).await[0].offset, 60);
}

async fn single_records_are_read(fixture: Fixture) {
    filled(&fixture, 100).await;
    let bounds = fixture.bounds();
    for offsets in [BTreeMap::from([(0, 99), (1, 0), (2, 50)]), BTreeMap::from([(1, 7)]), BTreeMap::new()] {
        let found = bounds.records_at(&offsets).await.unwrap();
        let mut places: Vec<_> = found.iter().map(|record| (record.partition, record.offset)).collect();
        places.sort_unstable();
        assert_eq!(places, offsets.into_iter().collect::<Vec<_>>());
        assert!(found.iter().all(|record| record.body.as_ref().unwrap().writer == WriterId(1)));
    }
    fixture.truncate(1, 60).await;
    assert!(bounds.records_at(&BTreeMap::from([(1, 59)])).await.is_err());
    assert_eq!(bounds.records_at(&BTreeMap::from([(1, 60)])).await.unwrap()[0].offset, 60);
}

async fn dead_letters_can_be_read(fixture: Fixture) {
    let content = DeadContent::Malformed(Malformed::Foreign, vec![1, 2, 3]);
    let letter = |offset| DeadLetter { partition: 2, offset, content: content.clone() };
    fixture.producer().dead_letter(vec![letter(5), letter(6)]).await.unwrap();
    let letters = fixture.dead_letters(2).await;
    assert_eq!(letters, [("2/5".into(), vec![1, 2, 3]), ("2/6".into(), vec![1, 2, 3])]);
}

async fn a_trace_is_carried_by_each_partition_of_its_batch(fixture: Fixture) {
    let trace = TraceContext::new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let rows = [row(7, 1, 50, 5), OutboxRow { trace: trace.clone(), ..row(7, 51, 50, 5) }, row(7, 101, 50, 5)];
    fixture.producer().publish(rows.to_vec()).await.unwrap();
    let mut consumer = started(&fixture, 0).await;
    let read = records(consumer.as_mut(), 150).await;
    for partition in expected(&rows[1..2]).keys() {
        let of_batch = |record: &&Record| (51..=100).contains(&record.body.as_ref().unwrap().seq);
        let (traced, others): (Vec<_>, Vec<_>) =
            read.iter().filter(|record| record.partition == *partition).partition(of_batch);
        assert_eq!(traced.first().map(|record| &record.trace), Some(&trace), "partition {partition}");
        assert!(others.iter().all(|record| record.trace.is_none()), "partition {partition}");
    }
}

async fn dead_letters_are_read_in_pages(fixture: Fixture) {
    let reader = fixture.dead_letter_reader();
    let query = LetterQuery { reason: String::new(), since: None, limit: 2, from: None };
    assert_eq!(reader.page(query.clone()).await.unwrap(), LetterPage::default());
    let event = LogEvent::of(WriterId(7), 3, &row(7, 3, 1, 5).batch.events[0]);
    let letter = |offset, content| DeadLetter { partition: 2, offset, content };
    let foreign = || DeadContent::Malformed(Malformed::Foreign, vec![1, 2, 3]);
    let letters = [foreign(), DeadContent::Phantom(event.clone()), foreign(), DeadContent::Phantom(event.clone())];
    let letters = (5..).zip(letters).map(|(offset, content)| letter(offset, content)).collect();
    fixture.producer().dead_letter(letters).await.unwrap();

    let all = async |query: LetterQuery| {
        let (mut query, mut found) = (query, Vec::new());
        loop {
            let page = reader.page(query.clone()).await.unwrap();
            assert!(page.letters.len() <= query.limit);
            found.extend(page.letters);
            match page.next {
                Some(next) => query.from = Some(next),
                None => return found,
            }
        }
    };
    let offsets = |letters: &[StoredLetter]| -> Vec<_> {
        letters.iter().map(|letter| letter.place.rsplit_once('/').unwrap().1.to_owned()).collect()
    };
    for limit in [1, 2, 3, 100] {
        assert_eq!(offsets(&all(LetterQuery { limit, ..query.clone() }).await), ["5", "6", "7", "8"]);
    }
    let phantoms = all(LetterQuery { reason: "RESTORED".into(), limit: 1, ..query.clone() }).await;
    assert_eq!(offsets(&phantoms), ["6", "8"]);
    assert_eq!((phantoms[0].content.as_ref(), phantoms[0].place.split('/').nth(1)), (Ok(&event), Some("2")));
    let foreign = all(LetterQuery { reason: "published".into(), since: Some(1), ..query.clone() }).await;
    assert!(foreign.iter().any(|letter| letter.content == Err(vec![1, 2, 3])), "{foreign:?}");
    // The log in memory notes no time.
    let has_times = foreign.iter().all(|letter| letter.sent.is_some());
    let later = all(LetterQuery { since: Some(i64::MAX), ..query }).await;
    assert_eq!(later.len(), if has_times { 0 } else { 4 });
}
