//! The file survives the process, even one that is killed.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use ping_memory::SystemClock;
use ping_ports::{CommitError, EventStore, Outbox, TotalsStore};
use ping_sqlite::{OpenError, SqliteStore};

use crate::fixture::{LEASE, THEN, batch, event, events};

/// Environment variable with the path of the child's file.
const FILE_VARIABLE: &str = "STORE_CONTRACT_FILE";
/// Events per commit of the child.
const BATCH: i64 = 40;

async fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(path, Arc::new(SystemClock)).await
}

#[tokio::test]
async fn a_file_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ping.db");
    let first = open(&path).await.unwrap();
    let Err(refused) = open(&path).await else { panic!("opened twice") };
    assert!(matches!(refused, OpenError::InUse(_)));
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    drop(first);
    open(&path).await.unwrap();
}

#[tokio::test]
async fn a_file_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "not a database at all, but long enough to be looked at as if it were one".repeat(20))
        .unwrap();
    assert!(matches!(open(&path).await, Err(OpenError::Open(..))));
    assert!(matches!(open(&folder.path().join("missing/ping.db")).await, Err(OpenError::Lock(..))));
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart_and_its_writers_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ping.db");
    let before = open(&path).await.unwrap();
    let writer = before.open_writer(LEASE).await.unwrap();
    before.commit(&batch(writer, 1, events([1, 2, 3]))).await.unwrap();
    drop(before);
    let after = open(&path).await.unwrap();
    assert_eq!(after.count(None).await.unwrap().count, 3);
    let late = after.commit(&batch(writer, 4, events([4]))).await;
    assert!(matches!(late, Err(CommitError::Fenced)));
    assert_eq!(after.claim_orphan(LEASE).await.unwrap(), Some(writer));
    assert!(after.open_writer(LEASE).await.unwrap() > writer);
}

#[tokio::test]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ping.db");
    for round in 1..=2 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["restarts::a_child_that_commits_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
            .env(FILE_VARIABLE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let acknowledged = lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<i64>().ok()).nth(300);
        child.kill().unwrap();
        child.wait().unwrap();
        let store = open(&path).await.unwrap();
        let orphan = store.claim_orphan(LEASE).await.unwrap().unwrap();
        let last = store.close_writer(orphan).await.unwrap();
        assert!(last >= acknowledged.unwrap() && last % BATCH == 0);
        let rows = store.unpublished(orphan, 0, usize::MAX).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.batch.events.len() as i64).sum::<i64>(), last);
        store.forget(orphan, last).await.unwrap();
        let recount = store.recount().await.unwrap();
        assert!(recount.rows >= last && recount.rows >= round * 300 * BATCH);
        let sums = [recount.total, recount.minutes_total, recount.days_total];
        assert_eq!((sums, recount.differing_minutes), ([recount.rows; 3], vec![]));
    }
}

#[tokio::test]
#[ignore = "run by the test above, as another process"]
async fn a_child_that_commits_until_it_is_killed() {
    let Some(path) = std::env::var_os(FILE_VARIABLE) else { return };
    let store = open(Path::new(&path)).await.unwrap();
    let writer = store.open_writer(LEASE).await.unwrap();
    for seq in (1..).step_by(40) {
        let id = |n: i64| uuid::Uuid::now_v7().as_u128() ^ u128::from(n.unsigned_abs());
        let events = (0..BATCH).map(|n| event(id(n), THEN + seq + n)).collect();
        let batch = batch(writer, seq, events);
        store.commit(&batch).await.unwrap();
        println!("acknowledged {}", batch.last_seq());
    }
}
