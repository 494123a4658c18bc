//! Totals are those of the rows, at every moment.

use std::{collections::BTreeMap, time::Duration};

use ping_core::{Minute, TimeRange};
use ping_ports::WriterTotal;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use crate::stage::{Stage, THEN, batch, event, events};

const MINUTE: i64 = 60_000;
const DAY: i64 = 1_440 * MINUTE;
const MOMENT: Duration = Duration::from_millis(5);

pub async fn a_range_counts_what_is_in_it(stage: &Stage) {
    let mut random = StdRng::seed_from_u64(7);
    // Mostly near seams, where a piece of the range could be missed or counted twice.
    let seam = |random: &mut StdRng| {
        let unit = [1, MINUTE, MINUTE, DAY][random.random_range(0..4)];
        (THEN + random.random_range(0..4 * DAY)) / unit * unit + random.random_range(-1..=1)
    };
    let times: Vec<_> = (0..900).map(|_| seam(&mut random)).collect();
    let all: Vec<_> = (0..).zip(&times).map(|(id, at)| event(id, *at)).collect();
    for part in all.chunks(300) {
        let writer = stage.open().await;
        for (index, chunk) in part.chunks(60).enumerate() {
            stage.commit(writer, i64::try_from(index * 60 + 1).unwrap(), chunk.to_vec()).await;
        }
    }
    for _ in 0..150 {
        let (a, b) = (seam(&mut random), seam(&mut random));
        let end = if random.random_bool(0.1) { 0 } else { a.max(b) };
        let range = TimeRange::new(a.min(b), end).unwrap();
        let in_it = |at: &&i64| **at >= a.min(b) && (end == 0 || **at < end);
        let expected = i64::try_from(times.iter().filter(in_it).count()).unwrap();
        assert_eq!(stage.store.count(Some(range)).await.unwrap(), expected, "{range:?}");
    }
    assert_eq!(stage.store.count(Some(TimeRange::new(0, 0).unwrap())).await.unwrap(), 900);
}

pub async fn a_snapshot_is_of_one_moment(stage: &Stage) {
    let mut tasks = JoinSet::new();
    for task in 0..4_u64 {
        let (store, writer) = (stage.store.clone(), stage.open().await);
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
        let snapshot = stage.store.snapshot(Minute(0), Duration::ZERO).await.unwrap();
        let numbers: i64 = snapshot.writers.iter().map(|writer| writer.last_seq).sum();
        assert_eq!((snapshot.minutes.values().sum(), numbers), (snapshot.total, snapshot.total));
        assert!(snapshot.total >= seen);
        seen = snapshot.total;
        if let Some(finished) = tasks.try_join_next() {
            finished.unwrap();
        }
    }
    assert_eq!(stage.store.snapshot(Minute(0), Duration::ZERO).await.unwrap().total, stage.total().await);
}

pub async fn a_snapshot_holds_the_window_and_what_was_touched(stage: &Stage) {
    let now = Minute::of(THEN);
    let earlier = |minutes: i64| THEN - minutes * MINUTE;
    let (one, two) = (stage.open().await, stage.open().await);
    let old = vec![event(1, THEN), event(2, earlier(1)), event(3, earlier(90)), event(4, earlier(80))];
    let before = stage.commit(one, 1, old).await.at;
    stage.pass(Duration::from_millis(1_500)).await;
    stage.commit(two, 1, vec![event(5, earlier(80)), event(6, earlier(70))]).await;
    let window = BTreeMap::from([(now.back(1), 1), (now, 1)]);
    let snapshot = stage.store.snapshot(now.back(60), Duration::ZERO).await.unwrap();
    assert_eq!((snapshot.total, &snapshot.minutes), (6, &window));
    assert!(snapshot.at >= before + 1_400);
    let last = |writer, last_seq| WriterTotal { writer, last_seq };
    assert_eq!(snapshot.writers, [last(one, 4), last(two, 2)]);
    let touched = stage.store.snapshot(now.back(60), Duration::from_millis(1_200)).await.unwrap().minutes;
    let expected: BTreeMap<_, _> = window.into_iter().chain([(now.back(80), 2), (now.back(70), 1)]).collect();
    assert_eq!(touched, expected);
}

pub async fn folding_keeps_every_count(stage: &Stage) {
    let range = Some(TimeRange::new(THEN - 1, THEN + 1).unwrap());
    for round in 1..=2_i64 {
        let mut writers = Vec::new();
        for n in 0..3_i64 {
            let first = u128::try_from(round * 100 + n * 10).unwrap();
            let writer = stage.visit(events(first..first + 10)).await;
            stage.store.forget(writer, 10).await.unwrap();
            writers.push(writer);
        }
        stage.pass(MOMENT).await;
        assert_eq!(stage.store.compact_writers(Duration::from_secs(3_600)).await.unwrap(), []);
        let compacted = stage.store.compact_writers(Duration::ZERO).await.unwrap();
        assert_eq!(compacted, writers);
        stage.counts(30 * round).await;
        assert_eq!(stage.store.count(range).await.unwrap(), 30 * round);
        let snapshot = stage.store.snapshot(Minute(0), Duration::ZERO).await.unwrap();
        assert_eq!((snapshot.total, snapshot.writers.len()), (30 * round, 0));
    }
}

pub async fn open_and_unpublished_writers_are_not_folded(stage: &Stage) {
    let open = stage.open().await;
    stage.commit(open, 1, events([1])).await;
    stage.store.forget(open, 1).await.unwrap();
    let unpublished = stage.visit(events([2])).await;
    let published = stage.visit(events([3])).await;
    stage.store.forget(published, 1).await.unwrap();
    stage.pass(MOMENT).await;
    assert_eq!(stage.store.compact_writers(Duration::ZERO).await.unwrap(), [published]);
    let snapshot = stage.store.snapshot(Minute(0), Duration::ZERO).await.unwrap();
    let left: Vec<_> = snapshot.writers.iter().map(|writer| writer.writer).collect();
    assert_eq!(left, [open, unpublished]);
    stage.commit(open, 2, events([4])).await;
    stage.counts(4).await;
}

pub async fn folding_at_once_folds_each_writer_once(stage: &Stage) {
    let mut writers = Vec::new();
    for n in 0..10 {
        let writer = stage.visit(events([n])).await;
        stage.store.forget(writer, 1).await.unwrap();
        writers.push(writer);
    }
    stage.pass(MOMENT).await;
    let folds = (0..4).map(|_| stage.store.compact_writers(Duration::ZERO));
    let compacted: Vec<_> = futures::future::join_all(folds).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(compacted.concat(), writers);
    stage.counts(10).await;
}

pub async fn a_recount_agrees(stage: &Stage) {
    stage.counts(0).await;
    let writer = stage.open().await;
    stage.commit(writer, 1, vec![event(1, THEN), event(2, THEN + DAY), event(3, THEN - DAY)]).await;
    stage.commit(writer, 4, vec![event(4, THEN), event(2, THEN + DAY)]).await;
    stage.counts(4).await;
}
