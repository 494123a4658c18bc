//! Totals equal the rows at any time.

use std::{collections::BTreeMap, time::Duration};

use ping_core::{Minute, TimeRange};
use ping_ports::WriterTotal;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use crate::fixture::{Fixture, THEN, batch, event, events};

const MINUTE: i64 = 60_000;
const DAY: i64 = 1_440 * MINUTE;
const SHORT_WAIT: Duration = Duration::from_millis(5);

pub async fn a_range_counts_what_is_in_it(fixture: &Fixture) {
    let mut random = StdRng::seed_from_u64(7);
    // Mostly near boundaries of minutes and days, where a part of the range could be missed or counted twice.
    let near_boundary = |random: &mut StdRng| {
        let unit = [1, MINUTE, MINUTE, DAY][random.random_range(0..4)];
        (THEN + random.random_range(0..4 * DAY)) / unit * unit + random.random_range(-1..=1)
    };
    let times: Vec<_> = (0..900).map(|_| near_boundary(&mut random)).collect();
    let all: Vec<_> = (0..).zip(&times).map(|(id, at)| event(id, *at)).collect();
    for part in all.chunks(300) {
        let writer = fixture.open().await;
        for (index, chunk) in part.chunks(60).enumerate() {
            fixture.commit(writer, i64::try_from(index * 60 + 1).unwrap(), chunk.to_vec()).await;
        }
    }
    for _ in 0..150 {
        let (a, b) = (near_boundary(&mut random), near_boundary(&mut random));
        let end = if random.random_bool(0.1) { 0 } else { a.max(b) };
        let range = TimeRange::new(a.min(b), end).unwrap();
        let in_range = |at: &&i64| **at >= a.min(b) && (end == 0 || **at < end);
        let expected = i64::try_from(times.iter().filter(in_range).count()).unwrap();
        assert_eq!(fixture.store.count(Some(range)).await.unwrap().count, expected, "{range:?}");
    }
    assert_eq!(fixture.store.count(Some(TimeRange::new(0, 0).unwrap())).await.unwrap().count, 900);
}

pub async fn a_snapshot_is_consistent(fixture: &Fixture) {
    let mut tasks = JoinSet::new();
    for task in 0..4_u64 {
        let (store, writer) = (fixture.store.clone(), fixture.open().await);
        tasks.spawn(async move {
            let mut random = StdRng::seed_from_u64(task);
            let mut seq = 1;
            for _ in 0..40 {
                let id = |n: i64| (u128::from(task) << 64) + u128::try_from(seq + n).unwrap();
                let at = |random: &mut StdRng| THEN + random.random_range(0..3 * MINUTE);
                let events = (0..random.random_range(1..9)).map(|n| event(id(n), at(&mut random))).collect();
                let batch = batch(writer, seq, events);
                store.commit(&batch).await.unwrap();
                seq = batch.last_seq() + 1;
            }
        });
    }
    let mut seen = 0;
    while !tasks.is_empty() {
        let snapshot = fixture.store.snapshot(Minute(0), Duration::ZERO).await.unwrap();
        let numbers: i64 = snapshot.writers.iter().map(|writer| writer.last_seq).sum();
        assert_eq!((snapshot.minutes.values().sum(), numbers), (snapshot.total, snapshot.total));
        assert!(snapshot.total >= seen);
        seen = snapshot.total;
        if let Some(finished) = tasks.try_join_next() {
            finished.unwrap();
        }
    }
    assert_eq!(fixture.store.snapshot(Minute(0), Duration::ZERO).await.unwrap().total, fixture.total().await);
}

pub async fn a_snapshot_holds_the_window_and_what_was_touched(fixture: &Fixture) {
    let now = Minute::of(THEN);
    let earlier = |minutes: i64| THEN - minutes * MINUTE;
    let (one, two) = (fixture.open().await, fixture.open().await);
    let old = vec![event(1, THEN), event(2, earlier(1)), event(3, earlier(90)), event(4, earlier(80))];
    let before = fixture.commit(one, 1, old).await.at;
    fixture.advance(Duration::from_millis(1_500)).await;
    let last_commit = fixture.commit(two, 1, vec![event(5, earlier(80)), event(6, earlier(70))]).await.at;
    let window = BTreeMap::from([(now.back(1), 1), (now, 1)]);
    let snapshot = fixture.store.snapshot(now.back(60), Duration::ZERO).await.unwrap();
    assert_eq!((snapshot.total, &snapshot.minutes), (6, &window));
    assert!(snapshot.at >= before + 1_400);
    assert!(snapshot.until >= snapshot.at.max(last_commit));
    let last = |writer, last_seq| WriterTotal { writer, last_seq };
    assert_eq!(snapshot.writers, [last(one, 4), last(two, 2)]);
    let touched = fixture.store.snapshot(now.back(60), Duration::from_millis(1_200)).await.unwrap().minutes;
    let expected: BTreeMap<_, _> = window.into_iter().chain([(now.back(80), 2), (now.back(70), 1)]).collect();
    assert_eq!(touched, expected);
}

pub async fn compaction_keeps_every_count(fixture: &Fixture) {
    let range = Some(TimeRange::new(THEN - 1, THEN + 1).unwrap());
    for round in 1..=2_i64 {
        let mut writers = Vec::new();
        for n in 0..3_i64 {
            let first = u128::try_from(round * 100 + n * 10).unwrap();
            let writer = fixture.closed_writer(events(first..first + 10)).await;
            fixture.store.forget(writer, 10).await.unwrap();
            writers.push(writer);
        }
        fixture.advance(SHORT_WAIT).await;
        assert_eq!(fixture.store.compact_writers(Duration::from_secs(3_600)).await.unwrap(), []);
        let compacted = fixture.store.compact_writers(Duration::ZERO).await.unwrap();
        assert_eq!(compacted, writers);
        fixture.assert_count(30 * round).await;
        assert_eq!(fixture.store.count(range).await.unwrap().count, 30 * round);
        let snapshot = fixture.store.snapshot(Minute(0), Duration::ZERO).await.unwrap();
        assert_eq!((snapshot.total, snapshot.writers.len()), (30 * round, 0));
    }
}

pub async fn open_and_unpublished_writers_are_not_compacted(fixture: &Fixture) {
    let open = fixture.open().await;
    fixture.commit(open, 1, events([1])).await;
    fixture.store.forget(open, 1).await.unwrap();
    let unpublished = fixture.closed_writer(events([2])).await;
    let published = fixture.closed_writer(events([3])).await;
    fixture.store.forget(published, 1).await.unwrap();
    fixture.advance(SHORT_WAIT).await;
    assert_eq!(fixture.store.compact_writers(Duration::ZERO).await.unwrap(), [published]);
    let snapshot = fixture.store.snapshot(Minute(0), Duration::ZERO).await.unwrap();
    let left: Vec<_> = snapshot.writers.iter().map(|writer| writer.writer).collect();
    assert_eq!(left, [open, unpublished]);
    fixture.commit(open, 2, events([4])).await;
    fixture.assert_count(4).await;
}

pub async fn concurrent_compactions_compact_each_writer_once(fixture: &Fixture) {
    let mut writers = Vec::new();
    for n in 0..10 {
        let writer = fixture.closed_writer(events([n])).await;
        fixture.store.forget(writer, 1).await.unwrap();
        writers.push(writer);
    }
    fixture.advance(SHORT_WAIT).await;
    let compactions = (0..4).map(|_| fixture.store.compact_writers(Duration::ZERO));
    let compacted: Vec<_> = futures::future::join_all(compactions).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(compacted.concat(), writers);
    fixture.assert_count(10).await;
}

pub async fn a_recount_agrees(fixture: &Fixture) {
    fixture.assert_count(0).await;
    let writer = fixture.open().await;
    fixture.commit(writer, 1, vec![event(1, THEN), event(2, THEN + DAY), event(3, THEN - DAY)]).await;
    fixture.commit(writer, 4, vec![event(4, THEN), event(2, THEN + DAY)]).await;
    fixture.assert_count(4).await;
}
