//! A commit stays in the outbox until it is forgotten.

use std::time::Duration;

use ping_core::{Event, Seq, WriterId};
use ping_ports::OutboxRow;

use crate::fixture::{Fixture, LEASE, THEN, event, events};

async fn rows(fixture: &Fixture, writer: WriterId, after: Seq, limit: usize) -> Vec<(Seq, Seq)> {
    let rows = fixture.store.unpublished(writer, after, limit).await.unwrap();
    rows.iter().map(|row| (row.batch.first_seq, row.batch.last_seq())).collect()
}

pub async fn a_row_comes_back_as_it_was_committed(fixture: &Fixture) {
    let writer = fixture.open().await;
    fixture.commit(writer, 1, events([2])).await;
    let named = Event { source: "example.com".into(), kind: "visit".into(), ..event(3, THEN) };
    let committed = fixture.commit(writer, 2, vec![named.clone(), event(2, THEN), event(1, THEN + 5)]).await;
    let stored = fixture.store.unpublished(writer, 1, 100).await.unwrap();
    let [OutboxRow { batch, committed: stored_commit, trace: None }] = stored.as_slice() else { panic!("{stored:?}") };
    assert_eq!(stored_commit, &committed);
    assert_eq!((batch.writer, batch.first_seq, batch.partitions, batch.partition), (writer, 2, 6, 4));
    assert_eq!(batch.events.as_slice(), [named, event(2, THEN), event(1, THEN + 5)]);
}

pub async fn rows_are_returned_in_order_up_to_the_limit(fixture: &Fixture) {
    let (writer, other) = (fixture.open().await, fixture.open().await);
    fixture.commit(other, 1, events([100])).await;
    for (first, last) in [(1_i64, 3_u128), (4, 4), (5, 9), (10, 10)] {
        fixture.commit(writer, first, events(first.unsigned_abs().into()..=last)).await;
    }
    assert_eq!(rows(fixture, writer, 0, 1_000).await, [(1, 3), (4, 4), (5, 9), (10, 10)]);
    assert_eq!(rows(fixture, writer, 0, 1).await, [(1, 3)]);
    assert_eq!(rows(fixture, writer, 0, 3).await, [(1, 3)]);
    assert_eq!(rows(fixture, writer, 0, 4).await, [(1, 3), (4, 4)]);
    assert_eq!(rows(fixture, writer, 0, 5).await, [(1, 3), (4, 4), (5, 9)]);
    assert_eq!(rows(fixture, writer, 4, 5).await, [(5, 9)]);
    assert_eq!(rows(fixture, writer, 4, 6).await, [(5, 9), (10, 10)]);
    assert_eq!(rows(fixture, writer, 10, 6).await, []);
    assert_eq!(rows(fixture, WriterId(4_711), 0, 6).await, []);
}

pub async fn forgotten_rows_are_gone_and_later_ones_stay(fixture: &Fixture) {
    let (writer, other) = (fixture.open().await, fixture.open().await);
    fixture.commit(other, 1, events([100])).await;
    for seq in 1..=4 {
        fixture.commit(writer, seq, events([seq.unsigned_abs().into()])).await;
    }
    fixture.store.forget(writer, 2).await.unwrap();
    assert_eq!(rows(fixture, writer, 0, 100).await, [(3, 3), (4, 4)]);
    fixture.store.forget(writer, 1).await.unwrap();
    fixture.store.forget(writer, 3).await.unwrap();
    fixture.commit(writer, 5, events([5])).await;
    assert_eq!(rows(fixture, writer, 0, 100).await, [(4, 4), (5, 5)]);
    fixture.store.forget(writer, 100).await.unwrap();
    assert_eq!(rows(fixture, writer, 0, 100).await, []);
    assert_eq!(rows(fixture, other, 0, 100).await, [(1, 1)]);
}

pub async fn an_orphan_is_lent_to_one_caller(fixture: &Fixture) {
    const SHORT: Duration = Duration::from_millis(300);
    let writer = fixture.closed_writer(events([1])).await;
    let claims = (0..4).map(|_| fixture.store.claim_orphan(SHORT));
    let lent: Vec<_> = futures::future::join_all(claims).await.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(lent.iter().filter(|lent| **lent == writer).count(), 1);
    fixture.advance(SHORT * 2).await;
    assert_eq!(fixture.store.claim_orphan(LEASE).await.unwrap(), Some(writer));
    fixture.store.forget(writer, 1).await.unwrap();
    fixture.advance(SHORT * 2).await;
    assert_eq!(fixture.store.claim_orphan(LEASE).await.unwrap(), None);
}

pub async fn a_writer_without_rows_is_no_orphan(fixture: &Fixture) {
    let (published, open) = (fixture.closed_writer(events([1, 2])).await, fixture.open().await);
    fixture.commit(open, 1, events([3])).await;
    fixture.store.forget(published, 2).await.unwrap();
    fixture.store.close_writer(fixture.open().await).await.unwrap();
    assert_eq!(fixture.store.claim_orphan(LEASE).await.unwrap(), None);
}

pub async fn the_watermark_is_the_oldest_row(fixture: &Fixture) {
    let nothing = fixture.store.outbox_watermark().await.unwrap();
    assert_eq!(nothing.oldest_unpublished, None);
    let (one, two) = (fixture.open().await, fixture.open().await);
    let mut times = Vec::new();
    for (writer, seq) in [(one, 1), (two, 1), (one, 2), (two, 2)] {
        fixture.advance(Duration::from_millis(5)).await;
        times.push(fixture.commit(writer, seq, events([u128::try_from(times.len()).unwrap()])).await.at);
    }
    assert!(times.is_sorted() && times[0] >= nothing.now && times[0] < times[3]);
    for (oldest, writer, seq) in [(0, one, 1), (1, two, 1), (2, one, 2), (3, two, 2)] {
        let outbox_watermark = fixture.store.outbox_watermark().await.unwrap();
        assert!(outbox_watermark.now >= times[3]);
        assert_eq!(
            (outbox_watermark.oldest_unpublished, outbox_watermark.published_until()),
            (Some(times[oldest]), times[oldest])
        );
        fixture.store.forget(writer, seq).await.unwrap();
    }
    let outbox_watermark = fixture.store.outbox_watermark().await.unwrap();
    assert_eq!((outbox_watermark.oldest_unpublished, outbox_watermark.published_until()), (None, outbox_watermark.now));
}
