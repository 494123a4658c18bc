//! What is certain after a failed call, and how soon the store works again.

use std::time::Duration;

use ping_core::{Retention, WriterId};
use ping_ports::{Advance, Applied, CommitError, EventStore, SourceViews, TotalsStore, chain};
use ping_postgres::{PostgresOptions, PostgresStore};
use ping_testbed::Postgres;
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::{sleep, timeout};

use crate::fixture::{LEASE, THEN, batch, events};

const TIMEOUT: Duration = Duration::from_millis(300);

/// A store whose calls time out before their statements give up waiting for a lock: their answers are lost.
async fn store(server: &Postgres, timeout: Duration) -> PostgresStore {
    store_with(server, timeout, Duration::from_secs(60)).await
}

async fn store_with(server: &Postgres, timeout: Duration, lock_timeout: Duration) -> PostgresStore {
    let options = PostgresOptions { timeout, lock_timeout, ..PostgresOptions::default() };
    let store = PostgresStore::connect(&server.url(), &options).await.unwrap();
    store.migrate().await.unwrap();
    store
}

async fn commit(store: &PostgresStore, writer: WriterId, seq: i64) -> Result<(), CommitError> {
    store.commit(&batch(writer, seq, events([seq.unsigned_abs().into()]))).await.map(|_| ())
}

#[tokio::test]
async fn a_restart_costs_no_acknowledgement_and_at_most_one_answer() {
    let mut server = Postgres::start().await.unwrap();
    let store = store(&server, Duration::from_secs(5)).await;
    let writer = store.open_writer(LEASE).await.unwrap();
    for seq in 1..=5 {
        commit(&store, writer, seq).await.unwrap();
    }
    // Several connections, all of which are broken after the restart.
    let renewals = (0..5).map(|_| store.renew(writer, 5, LEASE));
    assert!(futures::future::join_all(renewals).await.into_iter().all(Result::unwrap));
    server.kill_9().await.unwrap();
    assert!(matches!(commit(&store, writer, 6).await, Err(CommitError::Unknown(_) | CommitError::Refused(_))));
    assert!(matches!(commit(&store, writer, 6).await, Err(CommitError::Refused(_))));
    server.restart().await.unwrap();
    commit(&store, writer, 6).await.unwrap();
    assert_eq!(store.close_writer(writer).await.unwrap(), 6);
    assert_eq!(store.count(None).await.unwrap().count, 6);
}

#[tokio::test]
async fn an_idle_store_does_not_notice_a_restart() {
    let mut server = Postgres::start().await.unwrap();
    let store = store(&server, Duration::from_secs(5)).await;
    let writer = store.open_writer(LEASE).await.unwrap();
    commit(&store, writer, 1).await.unwrap();
    server.kill_9().await.unwrap();
    server.restart().await.unwrap();
    sleep(Duration::from_millis(1_100)).await;
    commit(&store, writer, 2).await.unwrap();
    assert_eq!(store.count(None).await.unwrap().count, 2);
}

#[tokio::test]
async fn a_standby_is_refused_until_it_is_the_primary() {
    let primary = Postgres::start().await.unwrap();
    store(&primary, Duration::from_secs(5)).await;
    let standby = Postgres::start_standby(primary.port()).await.unwrap();
    let refused = PostgresStore::connect(&standby.url(), &PostgresOptions::default()).await.unwrap_err();
    let refused = chain(&refused);
    assert!(
        refused.contains("it is a standby, which may lack the latest events; use the address of the primary"),
        "{refused}"
    );
    standby.promote().await.unwrap();
    let store = PostgresStore::connect(&standby.url(), &PostgresOptions::default()).await.unwrap();
    assert_eq!(store.count(None).await.unwrap().count, 0);
}

#[tokio::test]
async fn a_server_that_only_reads_refuses() {
    let server = Postgres::start().await.unwrap();
    let store = store(&server, Duration::from_secs(5)).await;
    let writer = store.open_writer(LEASE).await.unwrap();
    let mut admin = PgConnection::connect(&server.superuser_url()).await.unwrap();
    for (setting, refused) in [("on", true), ("off", false)] {
        admin
            .execute(sqlx::AssertSqlSafe(format!("ALTER SYSTEM SET default_transaction_read_only = {setting}")))
            .await
            .unwrap();
        admin.execute("SELECT pg_reload_conf()").await.unwrap();
        sleep(Duration::from_millis(200)).await;
        let result = commit(&store, writer, 1).await;
        assert_eq!(matches!(result, Err(CommitError::Refused(_))), refused, "{result:?}");
        admin.execute("SET default_transaction_read_only = off").await.unwrap();
    }
    assert_eq!(store.count(None).await.unwrap().count, 1);
}

/// A commit that is blocked until its caller times out.
async fn lose_an_answer(store: &PostgresStore, writer: WriterId) {
    let result = commit(store, writer, 1).await;
    assert!(matches!(result, Err(CommitError::Unknown(_))), "{result:?}");
}

#[tokio::test]
async fn a_commit_that_comes_after_closing_has_no_effect() {
    let server = Postgres::start().await.unwrap();
    let store = store(&server, TIMEOUT).await;
    let writer = store.open_writer(LEASE).await.unwrap();
    let mut blocker = PgConnection::connect(&server.superuser_url()).await.unwrap();
    let mut blocked = blocker.begin().await.unwrap();
    // The statement blocks before it has read its writer.
    blocked.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await.unwrap();
    lose_an_answer(&store, writer).await;
    assert_eq!(store.close_writer(writer).await.unwrap(), 0);
    blocked.rollback().await.unwrap();
    sleep(TIMEOUT).await;
    // Not with the short timeout: other tests share the cores.
    let store = self::store(&server, Duration::from_secs(5)).await;
    assert_eq!(store.count(None).await.unwrap().count, 0);
    assert_eq!(store.close_writer(writer).await.unwrap(), 0);
}

#[tokio::test]
async fn closing_waits_for_a_commit_whose_answer_is_lost() {
    let server = Postgres::start().await.unwrap();
    let store = store(&server, TIMEOUT).await;
    let patient_store = self::store(&server, Duration::from_secs(5)).await;
    let writer = store.open_writer(LEASE).await.unwrap();
    let mut blocker = PgConnection::connect(&server.superuser_url()).await.unwrap();
    let mut blocked = blocker.begin().await.unwrap();
    // The statement has locked its writer and waits for the other transaction to know whether this id is stored.
    let insert = "INSERT INTO events VALUES ('00000000-0000-0000-0000-000000000001', 0)";
    blocked.execute(insert).await.unwrap();
    lose_an_answer(&store, writer).await;
    assert!(timeout(TIMEOUT, patient_store.close_writer(writer)).await.is_err());
    blocked.rollback().await.unwrap();
    assert_eq!(patient_store.close_writer(writer).await.unwrap(), 1);
    assert_eq!(store.count(None).await.unwrap().count, 1);
}

#[tokio::test]
async fn a_terminated_session_leaves_the_outcome_unknown() {
    let server = Postgres::start().await.unwrap();
    let store = store(&server, Duration::from_secs(5)).await;
    let writer = store.open_writer(LEASE).await.unwrap();
    let mut admin = PgConnection::connect(&server.superuser_url()).await.unwrap();
    let mut blocker = PgConnection::connect(&server.superuser_url()).await.unwrap();
    let mut blocked = blocker.begin().await.unwrap();
    blocked.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let end = async {
        sleep(TIMEOUT).await;
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").await
    };
    let (result, ended) = tokio::join!(commit(&store, writer, 1), end);
    ended.unwrap();
    assert!(matches!(result, Err(CommitError::Unknown(_))), "{result:?}");
    blocked.rollback().await.unwrap();
    commit(&store, writer, 1).await.unwrap();
}

/// A backend that waits for a lock does not notice that its client has left: each retry would start one more, until there are no connections.
#[tokio::test]
async fn retries_during_a_rebuild_elsewhere_leave_no_backends() {
    let server = Postgres::start().await.unwrap();
    let store = store_with(&server, Duration::from_secs(2), TIMEOUT).await;
    let generation = "g".to_owned();
    assert!(store.rebuild(None, &generation, &[(0, 0)].into(), Retention::default().at(THEN)).await.unwrap());
    let writer = store.open_writer(LEASE).await.unwrap();
    let (mut rebuilder, mut committer) =
        (PgConnection::connect(&server.url()).await.unwrap(), PgConnection::connect(&server.url()).await.unwrap());
    let (mut rebuild, mut other) = (rebuilder.begin().await.unwrap(), committer.begin().await.unwrap());
    rebuild.execute("LOCK TABLE source_views IN EXCLUSIVE MODE").await.unwrap();
    other.execute("SELECT FROM writers FOR UPDATE").await.unwrap();
    let advance = Advance { generation, from: [(0, 0)].into(), to: [(0, 1)].into(), ..Advance::default() };
    for _ in 0..4 {
        assert!(store.apply(&advance, &[]).await.is_err());
        let result = commit(&store, writer, 1).await;
        assert!(matches!(result, Err(CommitError::Refused(_))), "Postgres says that it is undone: {result:?}");
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    assert_eq!(sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut *other).await.unwrap(), 0);
    rebuild.rollback().await.unwrap();
    other.rollback().await.unwrap();
    assert_eq!(store.apply(&advance, &[]).await.unwrap(), Applied::Done);
    commit(&store, writer, 1).await.unwrap();
}
