//! A writer is open until it is closed, and closed for ever.

use std::time::Duration;

use ping_core::WriterId;
use ping_ports::CommitError;

use crate::stage::{LEASE, Stage, batch, events};

/// Runs out within a test.
const SHORT: Duration = Duration::from_millis(200);
const LONGER: Duration = Duration::from_millis(400);

async fn is_fenced(stage: &Stage, writer: WriterId) -> bool {
    let result = stage.store.commit(&batch(writer, 1_000, events([999]))).await;
    matches!(result, Err(CommitError::Fenced))
}

pub async fn an_id_is_never_used_again(stage: &Stage) {
    let mut before = WriterId(0);
    for round in 0..3 {
        let writer = stage.visit(events([round])).await;
        assert!(writer > before);
        before = writer;
        stage.pass(Duration::from_millis(5)).await;
        stage.store.forget(writer, 1).await.unwrap();
        stage.store.compact_writers(Duration::ZERO).await.unwrap();
    }
}

pub async fn closing_tells_the_last_number(stage: &Stage) {
    let writer = stage.open().await;
    let idle = stage.open().await;
    stage.commit(writer, 1, events([1, 2, 3])).await;
    stage.commit(writer, 7, events([4, 5])).await;
    assert_eq!(stage.store.close_writer(writer).await.unwrap(), 8);
    assert_eq!(stage.store.close_writer(writer).await.unwrap(), 8);
    assert_eq!(stage.store.close_writer(idle).await.unwrap(), 0);
    assert!(stage.store.close_writer(WriterId(4_711)).await.is_err());
}

pub async fn a_closed_writer_commits_nothing(stage: &Stage) {
    let writer = stage.visit(events([1])).await;
    assert!(is_fenced(stage, writer).await);
    assert!(!stage.store.renew(writer, LEASE).await.unwrap());
    assert!(is_fenced(stage, writer).await);
    stage.counts(1).await;
    assert_eq!(stage.store.close_writer(writer).await.unwrap(), 1);
    assert_eq!(stage.store.unpublished(writer, 0, 100).await.unwrap().len(), 1);
}

pub async fn a_writer_that_never_was_commits_nothing(stage: &Stage) {
    assert!(is_fenced(stage, WriterId(4_711)).await);
    assert!(is_fenced(stage, WriterId(0)).await);
    stage.counts(0).await;
}

pub async fn a_commit_that_meets_closing_is_in_or_out(stage: &Stage) {
    for round in 0..30_u128 {
        let writer = stage.open().await;
        let store = stage.store.clone();
        // A known id puts some stores on a path of its own.
        let ids = if round < 15 { vec![round] } else { vec![round, 0] };
        let numbers = i64::try_from(ids.len()).unwrap();
        let commit = tokio::spawn(async move { store.commit(&batch(writer, 1, events(ids))).await });
        if round % 3 > 0 {
            tokio::time::sleep(Duration::from_micros(u64::try_from(round).unwrap() * 40)).await;
        }
        let last = stage.store.close_writer(writer).await.unwrap();
        match commit.await.unwrap() {
            Ok(_) => assert_eq!(last, numbers),
            Err(CommitError::Fenced) => assert_eq!(last, 0),
            Err(error) => panic!("{error:?}"),
        }
        let rows = stage.store.unpublished(writer, 0, 100).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.batch.last_seq()).sum::<i64>(), last);
    }
}

pub async fn renewing_keeps_a_writer_open(stage: &Stage) {
    let writer = stage.store.open_writer(SHORT).await.unwrap();
    assert!(stage.store.renew(writer, LEASE).await.unwrap());
    stage.pass(LONGER).await;
    assert_eq!(stage.store.claim_orphan(LEASE).await.unwrap(), None);
    assert!(!is_fenced(stage, writer).await);
}

pub async fn an_expired_writer_is_closed(stage: &Stage) {
    let (expired, alive) = (stage.store.open_writer(SHORT).await.unwrap(), stage.open().await);
    stage.pass(LONGER).await;
    assert_eq!(stage.store.claim_orphan(LEASE).await.unwrap(), None);
    assert!(is_fenced(stage, expired).await && !is_fenced(stage, alive).await);
}

pub async fn a_commit_renews_the_lease(stage: &Stage) {
    let writer = stage.store.open_writer(SHORT).await.unwrap();
    stage.commit(writer, 1, events([1])).await;
    stage.pass(LONGER).await;
    assert_eq!(stage.store.claim_orphan(LEASE).await.unwrap(), None);
    assert!(!is_fenced(stage, writer).await);
}
