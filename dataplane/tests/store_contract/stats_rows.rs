//! Rows for people and reporting tools, in Postgres: complete while there are few, and later otherwise. `stats_watermark` says which.

use std::{sync::Arc, time::Duration};

use ping_core::{Day, Event, Retention, Window};
use ping_ports::{Advance, Applied, EventStore, RowDifference, SourceViews, ViewAudit};
use ping_postgres::{PostgresOptions, PostgresStore};
use ping_segments::{Changes, Family};
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::timeout;

use crate::fixture::{LEASE, THEN, batch, database, event};

const DAY: i64 = 86_400_000;
/// Longer than a call takes that waits for no lock.
const A_WHILE: Duration = Duration::from_secs(3);

/// A store with views, and what to apply to them next.
struct Views {
    store: Arc<PostgresStore>,
    connection: PgConnection,
    generation: String,
    at: i64,
}

impl Views {
    /// Counts one event of each of `sources` sources at `timestamp_ms`.
    async fn count(&mut self, sources: usize, timestamp_ms: i64) {
        let mut changes = Changes::default();
        for source in 0..sources {
            changes.add(&format!("source-{source}"), "", timestamp_ms);
        }
        let segments: Vec<_> = changes.segments(Retention::default().at(THEN)).map(Result::unwrap).collect();
        let advance = Advance {
            generation: self.generation.clone(),
            from: [(0, self.at)].into(),
            to: [(0, self.at + 1)].into(),
            ..Advance::default()
        };
        assert_eq!(self.store.apply(&advance, &segments).await.unwrap(), Applied::Done);
        self.at += 1;
    }

    /// The number of rows and the sum of their counts, in windows and in days, and whether all windows have rows.
    async fn rows(&mut self) -> (i64, i64, i64, bool) {
        let sums = "SELECT (SELECT count(*) FROM window_stats), (SELECT coalesce(sum(ping_count), 0)::bigint FROM window_stats),
            (SELECT coalesce(sum(ping_count), 0)::bigint FROM daily_stats), windows_until = 'infinity' FROM stats_watermark";
        sqlx::query_as(sums).fetch_one(&mut self.connection).await.unwrap()
    }

    /// The events in rows of days, whether they are used yet or not.
    async fn past_days(&mut self) -> i64 {
        let sum = "SELECT coalesce(sum(count), 0)::bigint FROM source_past_days";
        sqlx::query_scalar(sum).fetch_one(&mut self.connection).await.unwrap()
    }
}

/// A database whose views are built and empty.
async fn empty_views() -> (impl Sized, Views) {
    let (server, url) = database().await;
    let store = Arc::new(PostgresStore::connect(&url, &PostgresOptions::default()).await.unwrap());
    store.migrate().await.unwrap();
    let ends = [(0, 0)].into();
    assert!(store.rebuild(None, &"g".into(), &ends, Retention::default().at(THEN)).await.unwrap());
    let connection = PgConnection::connect(&url).await.unwrap();
    (server, Views { store, connection, generation: "g".into(), at: 0 })
}

#[tokio::test]
async fn rows_follow_later_when_there_are_many() {
    let (_server, mut views) = empty_views().await;
    let store = Arc::clone(&views.store);
    views.count(10, THEN).await;
    assert_eq!(views.rows().await, (10, 10, 10, true), "a few rows are written at once");
    // The checkpoint that has too many writes them, and those after it leave them out.
    views.count(4_000, THEN).await;
    assert_eq!(views.rows().await, (4_000, 4_010, 4_010, false));
    views.count(4_000, THEN + 300_000).await;
    assert_eq!(views.rows().await, (4_000, 4_010, 4_010, false));
    // Nothing is exported while checkpoints are large, and a day with windows that have no rows yet is not closed.
    store.export_rows(Day(Day::of(THEN).0 + 2).start()).await.unwrap();
    assert_eq!(views.rows().await, (4_000, 4_010, 4_010, false));
    let until: bool = sqlx::query_scalar("SELECT windows_until = to_timestamp($1 * 300) FROM stats_watermark")
        .bind(Window::of(THEN).0)
        .fetch_one(&mut views.connection)
        .await
        .unwrap();
    assert!(until, "rows are complete before the window of the first large checkpoint");
    // A late event of an earlier window is complete at once.
    views.count(1, THEN - 300_000).await;
    assert_eq!(views.rows().await, (4_001, 4_011, 4_011, false));
    // The last checkpoint was small, so there is time to catch up.
    for _ in 0..2 {
        store.export_rows(THEN + 600_000).await.unwrap();
        assert_eq!(views.rows().await, (8_001, 8_011, 8_011, true));
    }
    views.count(10, THEN).await;
    assert_eq!(views.rows().await, (8_001, 8_021, 8_021, true));
    store.export_rows(Day(Day::of(THEN).0 + 2).start()).await.unwrap();
    assert_eq!(views.rows().await, (8_001, 8_021, 8_021, true));
    assert_eq!(views.past_days().await, 8_021, "the day's counts have rows of their own");
}

/// Checkpoints go on between the parts of an export, for sources that it has reached and others.
#[tokio::test]
async fn many_rows_are_exported_in_parts() {
    const SOURCES: usize = 60_000;
    let (_server, mut views) = empty_views().await;
    let store = Arc::clone(&views.store);
    views.count(SOURCES, THEN).await;
    views.count(SOURCES, THEN + 300_000).await;
    let mut between = 0;
    loop {
        views.count(100, THEN + 300_000).await;
        store.export_rows(THEN + 600_000).await.unwrap();
        if views.rows().await.3 {
            break;
        }
        between += 1;
    }
    assert!(between > 0, "all rows were exported at once");
    views.count(100, THEN + 300_000).await;
    let held: Vec<(i64, i64)> =
        sqlx::query_as("SELECT count, count(*) FROM source_windows WHERE bucket = $1 GROUP BY 1 ORDER BY 1")
            .bind(Window::of(THEN + 300_000).0)
            .fetch_all(&mut views.connection)
            .await
            .unwrap();
    assert_eq!(held, [(1, SOURCES as i64 - 100), (between + 3, 100)]);
    assert_eq!(views.rows().await.0, 2 * SOURCES as i64);

    let (tomorrow, mut events) = (Day(Day::of(THEN).0 + 1).start(), views.rows().await.1);
    let mut parts = 0;
    while views.past_days().await < events {
        store.export_rows(tomorrow).await.unwrap();
        views.count(100, THEN).await;
        events += 100;
        parts += 1;
        assert_eq!(views.rows().await.2, events, "each event is counted in its window or in its day");
    }
    assert!(parts > 1, "the day was closed at once");
    let all = (Day(i64::MIN), Day(i64::MAX));
    assert_eq!(store.differing_rows(all.0, all.1).await.unwrap(), []);
}

/// The deepest segments are of another day, so most parts of the tree have nothing to export.
#[tokio::test]
async fn a_quiet_day_is_exported_in_no_time_after_a_busy_one() {
    let (_server, mut views) = empty_views().await;
    let store = Arc::clone(&views.store);
    let deep = "INSERT INTO source_segments (family, node, period, data)
        SELECT family, 1 << 20, $1, '' FROM unnest('{1, 2}'::smallint[]) AS f (family)";
    sqlx::query(deep).bind(Day::of(THEN).0 - 3).execute(&mut views.connection).await.unwrap();
    views.count(4_000, THEN).await;
    views.count(100, THEN + 300_000).await;
    assert_eq!(views.rows().await, (4_000, 4_000, 4_000, false));
    for _ in 0..20 {
        store.export_rows(THEN + 600_000).await.unwrap();
    }
    assert_eq!(views.rows().await, (4_100, 4_100, 4_100, true));
    for _ in 0..20 {
        store.export_rows(THEN + DAY).await.unwrap();
    }
    assert_eq!(views.past_days().await, 4_100);
}

/// Of days whose windows have expired, of one that is not over, and of one that a wrong clock put far ahead.
#[tokio::test]
async fn rows_follow_a_rebuild() {
    let (_server, mut views) = empty_views().await;
    let store = Arc::clone(&views.store);
    let (writer, days) = (store.open_writer(LEASE).await.unwrap(), [-400, -20, -1, 0, 5]);
    let events = (1..).zip(days).map(|(id, day)| Event { source: "a".into(), ..event(id, THEN + day * DAY) });
    store.commit(&batch(writer, 1, events.collect())).await.unwrap();
    let (held, new) = ("g".to_owned(), "h".to_owned());
    assert!(store.rebuild(Some(&held), &new, &[(0, 0)].into(), Retention::default().at(THEN)).await.unwrap());
    assert_eq!(views.rows().await, (0, 0, 0, false), "a rebuild writes none");
    (views.generation, views.at) = (new, 0);
    views.count(1, THEN).await;
    views.count(1, THEN - 20 * DAY).await;
    for _ in 0..100 {
        store.export_rows(THEN + 1).await.unwrap();
        if views.rows().await.3 {
            break;
        }
    }
    assert_eq!(views.rows().await, (4, 4, 7, true));
    // Of a day that was skipped because it had no counts.
    views.count(1, THEN - 300 * DAY).await;
    assert_eq!(views.rows().await, (4, 4, 8, true));
    assert_eq!(views.past_days().await, 5, "of all days that have ended");
    assert_eq!(store.differing_rows(Day(i64::MIN), Day(i64::MAX)).await.unwrap(), []);
}

#[tokio::test]
async fn a_long_read_stops_neither_checkpoints_nor_retention() {
    let (_server, mut views) = empty_views().await;
    let store = Arc::clone(&views.store);
    views.count(1, THEN).await;
    views.connection.execute("BEGIN; SELECT count(*) FROM window_stats").await.unwrap();
    timeout(A_WHILE, views.count(1, THEN - DAY)).await.expect("a new partition does not wait for readers");
    let later = Retention::default().at(THEN + 30 * DAY);
    let retained = timeout(A_WHILE, store.apply_retention(later)).await.expect("retention gives up early");
    assert!(retained.is_err(), "the partitions are in use");
    timeout(A_WHILE, views.count(1, THEN + 20 * DAY)).await.expect("no checkpoint waits behind it");
    assert_eq!(store.differing_rows(Day(i64::MIN), Day(i64::MAX)).await.unwrap(), [], "expired rows are no difference");
    views.connection.execute("COMMIT").await.unwrap();
    store.apply_retention(later).await.unwrap();
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'source_windows'::regclass";
    assert_eq!(sqlx::query_scalar::<_, i64>(partitions).fetch_one(&mut views.connection).await.unwrap(), 0);
}

#[tokio::test]
async fn edited_rows_are_found() {
    let (_server, mut views) = empty_views().await;
    let store = Arc::clone(&views.store);
    let today = Day::of(THEN);
    views.count(10, THEN).await;
    store.export_rows(Day(today.0 + 1).start()).await.unwrap();
    views.count(5, THEN).await;
    let all = (Day(i64::MIN), Day(i64::MAX));
    assert_eq!(store.differing_rows(all.0, all.1).await.unwrap(), []);
    for (edit, family, held) in [
        ("UPDATE source_windows SET count = count + 1 WHERE source = 'source-3'", Family::Windows, 16),
        ("DELETE FROM source_windows WHERE source = 'source-3'", Family::Windows, 13),
        ("UPDATE source_past_days SET count = count - 1 WHERE source = 'source-4'", Family::Days, 14),
    ] {
        sqlx::query(edit).execute(&mut views.connection).await.unwrap();
        let found = RowDifference { family, day: today, added: 15, held };
        assert!(store.differing_rows(all.0, all.1).await.unwrap().contains(&found), "{edit}");
        assert_eq!(store.differing_rows(Day(today.0 + 1), all.1).await.unwrap(), []);
    }
    let rebuilt = store.rebuild(Some(&"g".into()), &"h".into(), &[(0, 0)].into(), Retention::default().at(THEN)).await;
    assert!(rebuilt.unwrap());
    assert_eq!(store.differing_rows(all.0, all.1).await.unwrap(), []);
}
