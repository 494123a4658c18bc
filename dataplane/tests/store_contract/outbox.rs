//! What was committed leaves the outbox when it is forgotten, and not before.

use std::time::Duration;

use ping_core::{Event, Seq, WriterId};
use ping_ports::OutboxRow;

use crate::stage::{LEASE, Stage, THEN, event, events};

async fn rows(stage: &Stage, writer: WriterId, after: Seq, limit: usize) -> Vec<(Seq, Seq)> {
    let rows = stage.store.unpublished(writer, after, limit).await.unwrap();
    rows.iter().map(|row| (row.batch.first_seq, row.batch.last_seq())).collect()
}

pub async fn a_row_comes_back_as_it_was_committed(stage: &Stage) {
    let writer = stage.open().await;
    stage.commit(writer, 1, events([2])).await;
    let named = Event { source: "example.com".into(), kind: "visit".into(), ..event(3, THEN) };
    let committed = stage.commit(writer, 10, vec![named.clone(), event(2, THEN), event(1, THEN + 5)]).await;
    let stored = stage.store.unpublished(writer, 1, 100).await.unwrap();
    let [OutboxRow { batch, committed: noted }] = stored.as_slice() else { panic!("{stored:?}") };
    assert_eq!(noted, &committed);
    assert_eq!((batch.writer, batch.first_seq, batch.partitions, batch.partition), (writer, 10, 6, 4));
    assert_eq!(batch.events.as_slice(), [named, event(2, THEN), event(1, THEN + 5)]);
}

pub async fn rows_come_in_order_and_up_to_the_limit(stage: &Stage) {
    let (writer, other) = (stage.open().await, stage.open().await);
    stage.commit(other, 1, events([100])).await;
    for (first, last) in [(1_i64, 3_u128), (4, 4), (5, 9), (10, 10)] {
        stage.commit(writer, first, events(first.unsigned_abs().into()..=last)).await;
    }
    assert_eq!(rows(stage, writer, 0, 1_000).await, [(1, 3), (4, 4), (5, 9), (10, 10)]);
    assert_eq!(rows(stage, writer, 0, 1).await, [(1, 3)]);
    assert_eq!(rows(stage, writer, 0, 3).await, [(1, 3)]);
    assert_eq!(rows(stage, writer, 0, 4).await, [(1, 3), (4, 4)]);
    assert_eq!(rows(stage, writer, 0, 5).await, [(1, 3), (4, 4), (5, 9)]);
    assert_eq!(rows(stage, writer, 4, 5).await, [(5, 9)]);
    assert_eq!(rows(stage, writer, 4, 6).await, [(5, 9), (10, 10)]);
    assert_eq!(rows(stage, writer, 10, 6).await, []);
    assert_eq!(rows(stage, WriterId(4_711), 0, 6).await, []);
}

pub async fn forgotten_rows_are_gone_and_later_ones_stay(stage: &Stage) {
    let (writer, other) = (stage.open().await, stage.open().await);
    stage.commit(other, 1, events([100])).await;
    for seq in 1..=4 {
        stage.commit(writer, seq, events([seq.unsigned_abs().into()])).await;
    }
    stage.store.forget(writer, 2).await.unwrap();
    assert_eq!(rows(stage, writer, 0, 100).await, [(3, 3), (4, 4)]);
    stage.store.forget(writer, 1).await.unwrap();
    stage.store.forget(writer, 3).await.unwrap();
    stage.commit(writer, 5, events([5])).await;
    assert_eq!(rows(stage, writer, 0, 100).await, [(4, 4), (5, 5)]);
    stage.store.forget(writer, 100).await.unwrap();
    assert_eq!(rows(stage, writer, 0, 100).await, []);
    assert_eq!(rows(stage, other, 0, 100).await, [(1, 1)]);
}

pub async fn an_orphan_is_lent_to_one(stage: &Stage) {
    const SHORT: Duration = Duration::from_millis(300);
    let writer = stage.visit(events([1])).await;
    let claims = (0..4).map(|_| stage.store.claim_orphan(SHORT));
    let lent: Vec<_> = futures::future::join_all(claims).await.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(lent.iter().filter(|lent| **lent == writer).count(), 1);
    stage.pass(SHORT * 2).await;
    assert_eq!(stage.store.claim_orphan(LEASE).await.unwrap(), Some(writer));
    stage.store.forget(writer, 1).await.unwrap();
    stage.pass(SHORT * 2).await;
    assert_eq!(stage.store.claim_orphan(LEASE).await.unwrap(), None);
}

pub async fn a_writer_without_rows_is_no_orphan(stage: &Stage) {
    let (published, open) = (stage.visit(events([1, 2])).await, stage.open().await);
    stage.commit(open, 1, events([3])).await;
    stage.store.forget(published, 2).await.unwrap();
    stage.store.close_writer(stage.open().await).await.unwrap();
    assert_eq!(stage.store.claim_orphan(LEASE).await.unwrap(), None);
}

pub async fn the_frontier_is_the_oldest_row(stage: &Stage) {
    let nothing = stage.store.outbox_watermark().await.unwrap();
    assert_eq!(nothing.oldest_unpublished, None);
    let (one, two) = (stage.open().await, stage.open().await);
    let mut times = Vec::new();
    for (writer, seq) in [(one, 1), (two, 1), (one, 2), (two, 2)] {
        stage.pass(Duration::from_millis(5)).await;
        times.push(stage.commit(writer, seq, events([u128::try_from(times.len()).unwrap()])).await.at);
    }
    assert!(times.is_sorted() && times[0] >= nothing.now && times[0] < times[3]);
    for (oldest, writer, seq) in [(0, one, 1), (1, two, 1), (2, one, 2), (3, two, 2)] {
        let outbox_watermark = stage.store.outbox_watermark().await.unwrap();
        assert!(outbox_watermark.now >= times[3]);
        assert_eq!(
            (outbox_watermark.oldest_unpublished, outbox_watermark.published_until()),
            (Some(times[oldest]), times[oldest])
        );
        stage.store.forget(writer, seq).await.unwrap();
    }
    let outbox_watermark = stage.store.outbox_watermark().await.unwrap();
    assert_eq!((outbox_watermark.oldest_unpublished, outbox_watermark.published_until()), (None, outbox_watermark.now));
}
