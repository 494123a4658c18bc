//! What every log promises: one body per promise, one case per adapter.
#![cfg(test)]

#[path = "log_contract/faults.rs"]
mod faults;
#[path = "log_contract/stage.rs"]
mod stage;

use std::collections::BTreeMap;

use futures::FutureExt;
use ping_core::Partition;
use ping_ports::{ConsumerEvent, DeadLetter, Malformed, OutboxRow};
use ping_testbed::Kafka;
use stage::{PARTITIONS, Stage, assigned, expected, next, records, row, settled, sorted, started};

macro_rules! contract {
    ($($promise:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::Stage::memory()).await;
            })*
        }

        /// One broker for all of them.
        #[tokio::test]
        async fn kafka_keeps_them_all() {
            let server = Kafka::start().await.unwrap();
            $(println!(stringify!($promise));
            $promise(Stage::kafka(&server.brokers()).await).await;)*
        }
    };
}

contract! {
    members_share_the_partitions
    records_keep_their_order_on_every_partition
    a_topic_says_how_many_partitions_it_has
    reading_starts_at_any_offset
    nothing_of_the_previous_start_comes_after_a_start
    starts_may_follow_each_other_at_once
    a_future_that_is_dropped_loses_nothing
    a_revoked_member_reads_nothing
    the_end_is_beyond_everything_published
    what_cannot_be_counted_is_told_with_its_reason
    reading_in_bulk_goes_past_what_is_larger_than_an_answer
    an_offset_that_is_gone_is_an_error
    what_is_set_aside_can_be_looked_at
}

async fn records_keep_their_order_on_every_partition(stage: Stage) {
    let sink = stage.sink();
    let rows: Vec<_> = (0..10).map(|batch| row(7, 1 + batch * 50, 50, 5)).collect();
    for rows in rows.chunks(3) {
        sink.publish(rows.to_vec()).await.unwrap();
    }
    let mut source = started(&stage, 0).await;
    let read = records(source.as_mut(), 500).await;
    assert_eq!(sorted(&read, 0), expected(&rows));
    assert!(read.iter().all(|record| record.body.as_ref().unwrap().timestamp_ms == 5));
}

async fn a_topic_says_how_many_partitions_it_has(stage: Stage) {
    assert_eq!(stage.sink().partitions().await.unwrap(), PARTITIONS);
    assert_eq!(stage.bounds().bounds().await.unwrap().len(), PARTITIONS as usize);
}

/// Every partition has `count` records of writer 1.
async fn filled(stage: &Stage, count: i64) {
    let rows = (0..i64::from(PARTITIONS)).map(|partition| {
        let mut row = row(1, partition + i64::from(PARTITIONS) * count, count, 5);
        let events = row.batch.events.iter().cloned();
        row.batch.events =
            std::sync::Arc::new(events.map(|event| ping_core::Event { source: "".into(), ..event }).collect());
        row
    });
    stage.sink().publish(rows.collect()).await.unwrap();
}

async fn reading_starts_at_any_offset(stage: Stage) {
    filled(&stage, 100).await;
    let mut source = stage.join();
    assigned(source.as_mut()).await;
    source.start(&BTreeMap::from([(0, 99), (1, 40), (2, 100)])).await.unwrap();
    let read = records(source.as_mut(), 61).await;
    let first =
        |partition: Partition| read.iter().find(|record| record.partition == partition).map(|record| record.offset);
    assert_eq!((first(0), first(1), first(2)), (Some(99), Some(40), None));
}

async fn nothing_of_the_previous_start_comes_after_a_start(stage: Stage) {
    filled(&stage, 5_000).await;
    let mut source = started(&stage, 0).await;
    for offset in [4_000, 7, 4_500, 4_999, 0, 2_500] {
        // Something is on its way when we start anew.
        assert!(matches!(next(source.as_mut()).await.unwrap(), ConsumerEvent::Records(_)));
        let from = (0..Partition::try_from(PARTITIONS).unwrap()).map(|partition| (partition, offset)).collect();
        source.start(&from).await.unwrap();
        let mut expected = from;
        for _ in 0..4 {
            let ConsumerEvent::Records(read) = next(source.as_mut()).await.unwrap() else { panic!("no records") };
            for record in read {
                let next = expected.get_mut(&record.partition).unwrap();
                assert_eq!(record.offset, *next, "after a start at {offset}");
                *next += 1;
            }
            if expected.values().all(|next| *next == 5_000) {
                break;
            }
        }
        source.start(&(0..3).map(|partition| (partition, 0)).collect()).await.unwrap();
    }
}

/// As they do when a cache or a broker comes and goes. (librdkafka 2.12 aborts the process when it is told twice to stop a
/// partition before it has said that it did: its issue 5573.)
async fn starts_may_follow_each_other_at_once(stage: Stage) {
    filled(&stage, 100).await;
    let mut source = started(&stage, 0).await;
    for round in 0..500 {
        let offset = round % 90;
        source.start(&(0..3).map(|partition| (partition, offset)).collect()).await.unwrap();
        if round % 50 == 49 {
            let read = records(source.as_mut(), 3 * usize::try_from(100 - offset).unwrap()).await;
            assert_eq!(sorted(&read, offset).len(), 3);
        }
    }
}

async fn a_future_that_is_dropped_loses_nothing(stage: Stage) {
    let sink = stage.sink();
    let mut source = started(&stage, 0).await;
    let rows: Vec<_> = (0..20).map(|batch| row(7, 1 + batch * 50, 50, 5)).collect();
    let publishing = async {
        for row in &rows {
            sink.publish(vec![row.clone()]).await.unwrap();
        }
    };
    let reading = async {
        let mut read = Vec::new();
        while read.len() < 1_000 {
            tokio::task::yield_now().await;
            match source.next().now_or_never() {
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

async fn members_share_the_partitions(stage: Stage) {
    let mut members = vec![stage.join()];
    assert_eq!(settled(&mut members).await, [3]);
    members.push(stage.join());
    let mut shares = settled(&mut members).await;
    shares.sort_unstable();
    assert_eq!(shares, [1, 2]);
    members.remove(0);
    assert_eq!(settled(&mut members).await, [3]);
}

async fn a_revoked_member_reads_nothing(stage: Stage) {
    filled(&stage, 2_000).await;
    let mut first = started(&stage, 0).await;
    assert!(matches!(next(first.as_mut()).await.unwrap(), ConsumerEvent::Records(_)));
    let mut second = stage.join();
    // The second member can only have partitions that the first one has heard are gone.
    let hearing = async {
        loop {
            match next(first.as_mut()).await.unwrap() {
                ConsumerEvent::Assigned(partitions) => return partitions,
                ConsumerEvent::Revoked => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                ConsumerEvent::Records(_) => {}
            }
        }
    };
    let (left, right) = tokio::join!(hearing, assigned(second.as_mut()));
    assert_eq!(left.len() + right.len(), PARTITIONS as usize);
    let silence = std::time::Duration::from_millis(500);
    assert!(tokio::time::timeout(silence, first.next()).await.is_err(), "records without a start");
}

async fn the_end_is_beyond_everything_published(stage: Stage) {
    let (sink, bounds) = (stage.sink(), stage.bounds());
    let mut rows: Vec<OutboxRow> = Vec::new();
    for batch in 0..20 {
        rows.push(row(7, 1 + batch * 10, 10, 5));
        sink.publish(vec![rows[rows.len() - 1].clone()]).await.unwrap();
        let expected = expected(&rows);
        for (partition, bounds) in bounds.bounds().await.unwrap() {
            let published = expected.get(&partition).map_or(0, Vec::len);
            assert_eq!((bounds.low, bounds.end), (0, i64::try_from(published).unwrap()));
        }
    }
}

async fn what_cannot_be_counted_is_told_with_its_reason(stage: Stage) {
    stage.append(0, b"{\"json\": 1}", Malformed::Undecodable).await;
    stage.append(1, b"\x10\x05", Malformed::Foreign).await;
    stage.sink().publish(vec![row(7, 1, 1, 5)]).await.unwrap();
    let mut source = started(&stage, 0).await;
    let mut read = records(source.as_mut(), 3).await;
    read.sort_by_key(|record| record.body.is_ok());
    let bodies: BTreeMap<_, _> =
        read[..2].iter().map(|record| (record.partition, record.body.clone().unwrap_err())).collect();
    assert_eq!(bodies[&0], (Malformed::Undecodable, b"{\"json\": 1}".to_vec()));
    assert_eq!(bodies[&1], (Malformed::Foreign, b"\x10\x05".to_vec()));
    assert!(read[2].body.is_ok());
}

async fn reading_in_bulk_goes_past_what_is_larger_than_an_answer(stage: Stage) {
    let stage = stage.in_bulk();
    let large = vec![b'{'; 900_000];
    stage.append(0, &large, Malformed::Undecodable).await;
    filled(&stage, 10_000).await;
    let mut source = started(&stage, 0).await;
    let read = records(source.as_mut(), 30_001).await;
    let refused: Vec<_> = read.into_iter().filter_map(|record| record.body.err()).collect();
    assert!(refused == [(Malformed::Undecodable, large)], "{} are refused", refused.len());
}

async fn an_offset_that_is_gone_is_an_error(stage: Stage) {
    filled(&stage, 100).await;
    stage.truncate(1, 60).await;
    let bounds = stage.bounds().bounds().await.unwrap();
    assert_eq!((bounds[&1].low, bounds[&1].end, bounds[&0].low), (60, 100, 0));
    let mut source = stage.join();
    assigned(source.as_mut()).await;
    source.start(&BTreeMap::from([(0, 100), (1, 59), (2, 100)])).await.unwrap();
    assert!(next(source.as_mut()).await.is_err());
    source.start(&BTreeMap::from([(0, 100), (1, 60), (2, 100)])).await.unwrap();
    assert_eq!(records(source.as_mut(), 40).await[0].offset, 60);
}

async fn what_is_set_aside_can_be_looked_at(stage: Stage) {
    let letter = |offset| DeadLetter { partition: 2, offset, reason: Malformed::Foreign, value: vec![1, 2, 3] };
    stage.sink().dead_letter(vec![letter(5), letter(6)]).await.unwrap();
    let letters = stage.dead_letters(2).await;
    assert_eq!(letters, [("2/5".into(), vec![1, 2, 3]), ("2/6".into(), vec![1, 2, 3])]);
}
