//! A store to test, with its clock.

use std::{
    any::Any,
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use ping_core::{Event, Millis, Seq, WriterId};
use ping_memory::{MemoryStore, SystemClock};
use ping_ports::{
    Batch, Clock, Committed, EventRetention, EventStore, Incarnations, Outbox, QuotaStore, SourceReader, SourceViews,
    StorageReader, TotalsStore,
};
use ping_postgres::{PostgresOptions, PostgresStore};
use ping_sqlite::SqliteStore;
use ping_testbed::Postgres;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, sqlite::SqliteConnectOptions};
use tokio::{sync::Mutex, time::sleep};
use uuid::Uuid;

/// Long enough not to expire during a test.
pub const LEASE: Duration = Duration::from_secs(60);
/// 2024-10-14T17:18:51Z: the time of the events in most tests.
pub const THEN: Millis = 1_728_926_331_000;

pub trait Store:
    EventStore
    + Outbox
    + TotalsStore
    + SourceViews
    + SourceReader
    + QuotaStore
    + EventRetention
    + StorageReader
    + Incarnations
{
}
impl<S> Store for S where
    S: EventStore
        + Outbox
        + TotalsStore
        + SourceViews
        + SourceReader
        + QuotaStore
        + EventRetention
        + StorageReader
        + Incarnations
{
}

/// A clock that is advanced by hand.
pub struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Millis {
        self.0.load(Ordering::SeqCst)
    }
}

pub fn clock() -> Arc<TestClock> {
    Arc::new(TestClock(AtomicI64::new(SystemClock.now())))
}

/// Direct access to the tables, for tests that tamper with them.
enum Tables {
    None,
    Sqlite(PathBuf),
    Postgres(String),
}

pub struct Fixture {
    pub store: Arc<dyn Store>,
    clock: Option<Arc<TestClock>>,
    tables: Tables,
    _resources: Box<dyn Any + Send + Sync>,
}

pub async fn memory() -> Fixture {
    let clock = clock();
    let store = Arc::new(MemoryStore::new(clock.clone()));
    Fixture { store, clock: Some(clock), tables: Tables::None, _resources: Box::new(()) }
}

pub async fn sqlite() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let path = folder.path().join("ping.db");
    let store = Arc::new(SqliteStore::open(&path, clock.clone()).await.unwrap());
    Fixture { store, clock: Some(clock), tables: Tables::Sqlite(path), _resources: Box::new(folder) }
}

pub async fn postgres() -> Fixture {
    let (server, url) = database().await;
    let store = PostgresStore::connect(&url, &PostgresOptions::default()).await.unwrap();
    store.migrate().await.unwrap();
    Fixture { store: Arc::new(store), clock: None, tables: Tables::Postgres(url), _resources: Box::new(server) }
}

/// An empty database of its own, on a server shared with the tests that run at the same time.
pub async fn database() -> (Arc<Postgres>, String) {
    static SERVER: Mutex<Weak<Postgres>> = Mutex::const_new(Weak::new());
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mut shared = SERVER.lock().await;
    let server = match shared.upgrade() {
        Some(server) => server,
        None => Arc::new(Postgres::start().await.unwrap()),
    };
    *shared = Arc::downgrade(&server);
    drop(shared);
    let name = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut connection = PgConnection::connect(&server.superuser_url()).await.unwrap();
    let create = AssertSqlSafe(format!("CREATE DATABASE {name} OWNER ping"));
    sqlx::query(create).execute(&mut connection).await.unwrap();
    let url = format!("postgres://ping@127.0.0.1:{}/{name}", server.port());
    (server, url)
}

impl Fixture {
    /// Advances the clock, or waits if the store uses the real time.
    pub async fn advance(&self, duration: Duration) {
        match &self.clock {
            Some(clock) => {
                clock.0.fetch_add(i64::try_from(duration.as_millis()).unwrap(), Ordering::SeqCst);
            }
            None => sleep(duration).await,
        }
    }

    /// Changes the tables directly.
    pub async fn tamper(&self, sql: &'static str) {
        match &self.tables {
            Tables::None => panic!("this store has no tables"),
            Tables::Sqlite(path) => {
                let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
                sqlx::query(sql).execute(&mut connection).await.unwrap();
            }
            Tables::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                sqlx::query(sql).execute(&mut connection).await.unwrap();
            }
        }
    }

    pub async fn open(&self) -> WriterId {
        self.store.open_writer(LEASE).await.unwrap()
    }

    /// Commits `events`, numbered from `first_seq` on.
    pub async fn commit(&self, writer: WriterId, first_seq: Seq, events: Vec<Event>) -> Committed {
        self.store.commit(&batch(writer, first_seq, events)).await.unwrap()
    }

    /// Opens a writer, commits `events` and closes it; returns its id.
    pub async fn closed_writer(&self, events: Vec<Event>) -> WriterId {
        let writer = self.open().await;
        self.commit(writer, 1, events).await;
        self.store.close_writer(writer).await.unwrap();
        writer
    }

    pub async fn total(&self) -> i64 {
        self.store.count(None).await.unwrap().count
    }

    /// Every sum is `count`: of rows together with dropped events, and over them.
    pub async fn assert_events(&self, count: i64) {
        let recount = self.store.recount().await.unwrap();
        let sums = [recount.events(), recount.total, recount.minutes_total, recount.days_total];
        assert_eq!((sums, recount.differing_minutes), ([count; 4], vec![]));
    }

    /// The number of rows and every sum over them are `count`.
    pub async fn assert_count(&self, count: i64) {
        let recount = self.store.recount().await.unwrap();
        let sums = [recount.rows, recount.total, recount.minutes_total, recount.days_total];
        assert_eq!((sums, recount.differing_minutes), ([count; 4], vec![]));
    }
}

pub fn event(id: u128, timestamp_ms: Millis) -> Event {
    Event { id: Uuid::from_u128(id), timestamp_ms, timestamp_assumed: false, source: "".into(), kind: "".into() }
}

/// Events with these ids, at `THEN`.
pub fn events(ids: impl IntoIterator<Item = u128>) -> Vec<Event> {
    ids.into_iter().map(|id| event(id, THEN)).collect()
}

pub fn batch(writer: WriterId, first_seq: Seq, events: Vec<Event>) -> Batch {
    Batch { writer, first_seq, events: Arc::new(events), partitions: 6, partition: 4, lease: LEASE }
}
