use std::time::Duration;

use uuid::Uuid;

use super::*;
use ping_core::{Event, Seq};
use ping_ports::{Batch, CommitError, EventStore, QuotaStore, TotalsStore};

const NOW: Millis = 1_728_926_331_000;

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Millis {
        NOW
    }
}

/// Limits the size of the file; not below its current size.
async fn limit_pages(store: &SqliteStore, limit: &'static str) {
    sqlx::query(limit).execute(&mut *store.writer.lock().await).await.unwrap();
}

/// Each event is a statement of its own: when one finds no space, SQLite rolls the whole transaction back.
#[tokio::test]
async fn a_store_that_was_full_accepts_events_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("ping.db"), Arc::new(Stopped)).await.unwrap();
    let lease = Duration::from_secs(60);
    let writer = store.open_writer(lease).await.unwrap();
    let commit = async |seq: Seq| {
        let id = Uuid::from_u128(seq.unsigned_abs().into());
        let (source, kind) = ("".into(), "".into());
        let events = Arc::new(vec![Event { id, timestamp_ms: NOW, timestamp_assumed: false, source, kind }]);
        store.commit(&Batch { writer, first_seq: seq, events, partitions: 1, partition: 0, lease }).await
    };
    limit_pages(&store, "PRAGMA max_page_count = 1").await;
    let mut next = 1;
    let refusal = loop {
        match commit(next).await {
            Ok(_) => next += 1,
            Err(refusal) => break refusal,
        }
        assert!(next < 10_000, "it never runs full");
    };
    assert!(matches!(&refusal, CommitError::Refused(cause) if cause.is::<DiskFull>()), "{refusal:?}");
    limit_pages(&store, "PRAGMA max_page_count = 1000000").await;
    store.settle(&[]).await.expect("a transaction begins");
    commit(next).await.expect("there is space again");
    assert_eq!(store.count(None).await.unwrap().count, next);
}
