//! A writer is open until it is closed; closing is permanent.

use std::time::Duration;

use ping_core::{LastSeqs, Seq, WriterId};
use ping_ports::CommitError;

use crate::fixture::{Fixture, LEASE, batch, events};

/// A lease that expires during a test.
const SHORT: Duration = Duration::from_millis(200);
const LONGER: Duration = Duration::from_millis(400);

/// Whether the writer, which has committed numbers up to `last`, commits nothing more.
async fn is_fenced(fixture: &Fixture, writer: WriterId, last: Seq) -> bool {
    let result = fixture.store.commit(&batch(writer, last + 1, events([999]))).await;
    matches!(result, Err(CommitError::Fenced))
}

pub async fn a_writer_id_is_never_reused(fixture: &Fixture) {
    let mut before = WriterId(0);
    for round in 0..3 {
        let writer = fixture.closed_writer(events([round])).await;
        assert!(writer > before);
        before = writer;
        fixture.advance(Duration::from_millis(5)).await;
        fixture.store.forget(writer, 1).await.unwrap();
        fixture.store.compact_writers(Duration::ZERO).await.unwrap();
    }
}

pub async fn closing_returns_the_last_number(fixture: &Fixture) {
    let writer = fixture.open().await;
    let idle = fixture.open().await;
    fixture.commit(writer, 1, events([1, 2, 3])).await;
    fixture.commit(writer, 4, events([4, 5])).await;
    assert_eq!(fixture.store.close_writer(writer).await.unwrap(), 5);
    assert_eq!(fixture.store.close_writer(writer).await.unwrap(), 5);
    assert_eq!(fixture.store.close_writer(idle).await.unwrap(), 0);
    assert!(fixture.store.close_writer(WriterId(4_711)).await.is_err());
}

pub async fn a_closed_writer_commits_nothing(fixture: &Fixture) {
    let writer = fixture.closed_writer(events([1])).await;
    assert!(is_fenced(fixture, writer, 1).await);
    assert!(!fixture.store.renew(writer, 1, LEASE).await.unwrap());
    assert!(is_fenced(fixture, writer, 1).await);
    fixture.assert_count(1).await;
    assert_eq!(fixture.store.close_writer(writer).await.unwrap(), 1);
    assert_eq!(fixture.store.unpublished(writer, 0, 100).await.unwrap().len(), 1);
}

pub async fn an_unknown_writer_commits_nothing(fixture: &Fixture) {
    assert!(is_fenced(fixture, WriterId(4_711), 0).await);
    assert!(is_fenced(fixture, WriterId(0), 0).await);
    fixture.assert_count(0).await;
}

pub async fn a_commit_that_races_with_closing_is_in_or_out(fixture: &Fixture) {
    for round in 0..30_u128 {
        let writer = fixture.open().await;
        let store = fixture.store.clone();
        // A known id takes another code path in some stores.
        let ids = if round < 15 { vec![round] } else { vec![round, 0] };
        let numbers = i64::try_from(ids.len()).unwrap();
        let commit = tokio::spawn(async move { store.commit(&batch(writer, 1, events(ids))).await });
        if round % 3 > 0 {
            tokio::time::sleep(Duration::from_micros(u64::try_from(round).unwrap() * 40)).await;
        }
        let last = fixture.store.close_writer(writer).await.unwrap();
        match commit.await.unwrap() {
            Ok(_) => assert_eq!(last, numbers),
            Err(CommitError::Fenced) => assert_eq!(last, 0),
            Err(error) => panic!("{error:?}"),
        }
        let rows = fixture.store.unpublished(writer, 0, 100).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.batch.last_seq()).sum::<i64>(), last);
    }
}

pub async fn renewing_keeps_a_writer_open(fixture: &Fixture) {
    let writer = fixture.store.open_writer(SHORT).await.unwrap();
    for other in [-1, 1] {
        assert!(!fixture.store.renew(writer, other, LEASE).await.unwrap(), "a lane that has committed {other}");
    }
    assert!(fixture.store.renew(writer, 0, LEASE).await.unwrap());
    fixture.advance(LONGER).await;
    assert_eq!(fixture.store.claim_orphan(LEASE).await.unwrap(), None);
    assert!(!is_fenced(fixture, writer, 0).await);
}

pub async fn an_expired_writer_is_closed(fixture: &Fixture) {
    let (expired, alive) = (fixture.store.open_writer(SHORT).await.unwrap(), fixture.open().await);
    fixture.advance(LONGER).await;
    assert_eq!(fixture.store.claim_orphan(LEASE).await.unwrap(), None);
    assert!(is_fenced(fixture, expired, 0).await && !is_fenced(fixture, alive, 0).await);
}

pub async fn a_commit_renews_the_lease(fixture: &Fixture) {
    let writer = fixture.store.open_writer(SHORT).await.unwrap();
    fixture.commit(writer, 1, events([1])).await;
    fixture.advance(LONGER).await;
    assert_eq!(fixture.store.claim_orphan(LEASE).await.unwrap(), None);
    assert!(!is_fenced(fixture, writer, 1).await);
}

/// A store that was restored to an earlier time does not continue where the lane is, not even once it has new events.
pub async fn a_batch_that_does_not_follow_the_last_one_commits_nothing(fixture: &Fixture) {
    let writer = fixture.open().await;
    fixture.commit(writer, 1, events([1, 2, 3])).await;
    for last in [0, 2, 4, 1_000] {
        assert!(is_fenced(fixture, writer, last).await, "{last}");
    }
    fixture.assert_count(3).await;
    fixture.commit(writer, 4, events([4])).await;
}

pub async fn last_numbers_are_those_of_live_and_compacted_writers(fixture: &Fixture) {
    let (open, unknown) = (fixture.open().await, WriterId(4_711));
    fixture.commit(open, 1, events([1, 2])).await;
    let closed = fixture.closed_writer(events([3, 4, 5])).await;
    fixture.store.forget(closed, 3).await.unwrap();
    fixture.advance(Duration::from_millis(5)).await;
    let live = LastSeqs { live: [(open, 2), (closed, 3)].into(), ..LastSeqs::default() };
    assert_eq!(fixture.store.last_seqs(&[open, closed, unknown]).await.unwrap(), live);
    assert_eq!(fixture.store.compact_writers(Duration::ZERO).await.unwrap(), [closed]);
    let compacted = LastSeqs { live: [(open, 2)].into(), compacted: [(closed, 3)].into() };
    assert_eq!(fixture.store.last_seqs(&[open, closed, unknown]).await.unwrap(), compacted);
    assert_eq!(fixture.store.last_seqs(&[]).await.unwrap(), LastSeqs::default());
}
