//! Postgres partitions the tables of events while events are committed. `EVENTS=n` sets how many there are before (default 200,000).

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ping_core::{Day, Event, Millis, Retention, Seq, id_day};
use ping_memory::SystemClock;
use ping_ports::{Clock, EventRetention, EventStore, SourceViews, TotalsStore};
use ping_postgres::{PostgresOptions, PostgresStore};
use rand::{Rng, SeedableRng, rngs::StdRng};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::{task::JoinSet, time::sleep};
use uuid::Uuid;

use crate::{
    event_retention::{dated, id},
    fixture::{LEASE, THEN, batch, database},
};

const DAY: Millis = 86_400_000;
/// Days whose events are kept, of ten.
const DAYS: i64 = 6;
/// Commits may wait for a lock twice, and for a disk that others use.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

async fn execute(url: &str, sql: impl Into<String>) -> Result<u64, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let done = sqlx::query(AssertSqlSafe(sql.into())).execute(&mut connection).await?;
    Ok(done.rows_affected())
}

async fn number(url: &str, sql: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap()
}

async fn store(url: &str) -> Arc<PostgresStore> {
    let store = PostgresStore::connect(url, &PostgresOptions::default()).await.unwrap();
    store.migrate().await.unwrap();
    Arc::new(store)
}

/// Stores `count` events of the ten days before `now` as an earlier version did, all of their days in equal parts.
async fn fill(url: &str, count: i64, now: Millis) {
    let events = format!(
        "INSERT INTO events (id, timestamp_ms, source)
        SELECT (lpad(to_hex(at), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') || '8' || lpad(to_hex(n), 15, '0'))::uuid, at,
            CASE WHEN n % 3 > 0 THEN 'source-' || n % 100 END
        FROM (SELECT n, {now} - (n * 864000000 / {count}) AS at FROM generate_series(1, {count}::bigint) AS n) AS numbered"
    );
    let per_bucket = |width: i64, minutes: i64| {
        format!(
            "INSERT INTO rollups (width_minutes, bucket, writer, count, attributed, touched_at)
            SELECT {minutes}, timestamp_ms / {width}, 0, count(*), count(source), now() FROM events GROUP BY 2"
        )
    };
    let counts = "INSERT INTO millisecond_counts SELECT timestamp_ms, count(*) FROM events GROUP BY 1".to_owned();
    let total = format!("UPDATE writers SET total = {count} WHERE id = 0");
    for sql in [events, counts, per_bucket(60_000, 1), per_bucket(DAY, 1440), total] {
        execute(url, sql).await.unwrap();
    }
}

/// What a client has sent.
#[derive(Default)]
struct Traffic {
    ids: HashSet<Uuid>,
    longest: Duration,
    repeated: usize,
}

/// Commits new and repeated ids until `stopped`.
async fn commit(store: Arc<PostgresStore>, client: u64, stored: Vec<Uuid>, stopped: Arc<AtomicBool>) -> Traffic {
    let mut random = StdRng::seed_from_u64(client);
    let (mut traffic, mut recent) = (Traffic::default(), Vec::<Event>::new());
    let writer = store.open_writer(LEASE).await.unwrap();
    let mut seq: Seq = 1;
    let mut next = client << 40;
    while !stopped.load(Ordering::Relaxed) {
        let now = SystemClock.now();
        let mut events: Vec<_> = (0..random.random_range(1..20)).map(|place| dated(next + place, now)).collect();
        next += 20;
        if let Some(event) = events.first_mut().filter(|_| random.random_bool(0.3)) {
            event.id = Uuid::from_u128(random.random::<u128>() & !(0xf << 76) | (4 << 76));
        }
        let new = events.len();
        if !recent.is_empty() && random.random_bool(0.3) {
            events.push(recent[random.random_range(0..recent.len())].clone());
        }
        if random.random_bool(0.1) {
            let id = stored[random.random_range(0..stored.len())];
            events.push(Event { id, ..dated(next, now) });
        }
        let began = Instant::now();
        let committed = store.commit(&batch(writer, seq, events.clone())).await.unwrap();
        traffic.longest = traffic.longest.max(began.elapsed());
        traffic.repeated += committed.known.len();
        let known: HashSet<_> = events[new..].iter().map(|event| event.id).collect();
        assert_eq!(committed.known, known);
        seq += i64::try_from(events.len()).unwrap();
        events.truncate(new);
        traffic.ids.extend(events.iter().map(|event| event.id));
        recent = events;
        sleep(Duration::from_millis(random.random_range(0..4))).await;
    }
    traffic
}

async fn every_id_is_found(store: &PostgresStore, ids: &[Uuid]) {
    // As many as a call has at most.
    for ids in ids.chunks(10_000) {
        assert_eq!(store.find(ids).await.unwrap().len(), ids.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_partitioned_and_days_dropped_while_events_are_committed() {
    let count = std::env::var("EVENTS").ok().map_or(200_000, |text| text.parse().expect("EVENTS must be a number"));
    let (_server, url) = database().await;
    let store = store(&url).await;
    let now = SystemClock.now();
    fill(&url, count, now).await;
    let today = Day::of(now);
    let stored: Vec<Uuid> = {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let recent = sqlx::query_scalar("SELECT id FROM events WHERE timestamp_ms >= $1 LIMIT 1000");
        recent.bind(today.start() - DAY).fetch_all(&mut connection).await.unwrap()
    };
    store.move_cutoff(today.back(DAYS), now).await.unwrap();
    let stopped = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for client in 1..=3 {
        clients.spawn(commit(Arc::clone(&store), client, stored.clone(), Arc::clone(&stopped)));
    }
    // Killed ever later, until one attempt is long enough.
    let mut limit = Duration::from_millis(1);
    let mut killed = 0;
    while number(&url, "SELECT partitioned::int::bigint FROM event_retention").await == 0 {
        // It fails if it waits too long for a lock that a killed attempt still holds.
        killed += usize::from(tokio::time::timeout(limit, store.prepare_days(today)).await.is_err());
        limit = limit * 3 / 2;
    }
    let began = Instant::now();
    let cutoffs = Retention::default().at(now);
    // A processor that is killed while it drops.
    let _ = tokio::time::timeout(Duration::from_millis(300), store.drop_expired(cutoffs)).await;
    let left = format!("SELECT count(*) FROM events WHERE event_id_day(id) BETWEEN 0 AND {}", today.back(DAYS + 1).0);
    while number(&url, &left).await > 0 {
        // While the statement of the killed one ends, others have no turn.
        store.drop_expired(cutoffs).await.unwrap();
    }
    let dropping = began.elapsed();
    sleep(Duration::from_millis(300)).await;
    stopped.store(true, Ordering::Relaxed);
    let (mut ids, mut longest, mut repeated) = (HashSet::new(), Duration::ZERO, 0);
    while let Some(traffic) = clients.join_next().await {
        let traffic = traffic.unwrap();
        ids.extend(traffic.ids);
        longest = longest.max(traffic.longest);
        repeated += traffic.repeated;
    }
    println!(
        "{count} events before and {} meanwhile, {repeated} repeated; killed {killed} times; longest commit {longest:?}; dropped in {dropping:?}",
        ids.len()
    );
    assert!(killed > 0 && repeated > 0 && longest < LONGEST_PAUSE);
    let recount = store.recount().await.unwrap();
    let all = count + i64::try_from(ids.len()).unwrap();
    assert_eq!((recount.events(), recount.total, recount.minutes_total, recount.days_total), (all, all, all, all));
    assert_eq!(recount.differing_minutes, []);
    assert!(recount.dropped.count > count / 4, "{recount:?}");
    assert_eq!(number(&url, "SELECT count(*) - count(DISTINCT id) FROM events").await, 0);
    every_id_is_found(&store, &ids.into_iter().collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn tables_stay_as_large_as_two_days() {
    const PER_DAY: u64 = 5_000;
    let (_server, url) = database().await;
    let store = store(&url).await;
    let size = "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relkind = 'r'
        AND (relname LIKE 'events\\_%' OR relname LIKE 'millisecond\\_counts\\_%' OR relname IN ('source_base', 'dropped_minutes'))";
    let mut sizes = Vec::new();
    for day in 0..10_i64 {
        let now = THEN + day * DAY;
        let writer = store.open_writer(LEASE).await.unwrap();
        let event = |place: u64| day.unsigned_abs() * PER_DAY + place;
        let at = |place: u64| now + i64::try_from(place).unwrap() * 11;
        let events: Vec<_> = (0..PER_DAY).map(|place| dated(event(place), at(place))).collect();
        store.commit(&batch(writer, 1, events)).await.unwrap();
        store.move_cutoff(Day::of(now).back(1), now).await.unwrap();
        store.prepare_days(Day::of(now)).await.unwrap();
        store.drop_expired(Retention::default().at(now)).await.unwrap();
        sizes.push(number(&url, size).await);
    }
    println!("bytes after each day: {sizes:?}");
    assert!(sizes[9] < sizes[5] * 11 / 10, "{sizes:?}");
}

#[tokio::test]
async fn the_day_of_an_id_is_the_same_in_sql() {
    let (_server, url) = database().await;
    store(&url).await;
    let mut random = StdRng::seed_from_u64(3);
    let mut ids: Vec<Uuid> = (0..200).map(|_| Uuid::from_u128(random.random())).collect();
    ids.extend((0..200).map(|number| id(number, random.random_range(0..5_000_000_000_000))));
    for edge in [18_262, 47_482] {
        ids.extend([-1, 0, 1].map(|off| id(7, edge * DAY + off)));
    }
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let days =
        sqlx::query_scalar("SELECT event_id_day(id) FROM unnest($1::uuid[]) WITH ORDINALITY AS i (id, n) ORDER BY n");
    let days: Vec<i32> = days.bind(&ids).fetch_all(&mut connection).await.unwrap();
    let expected: Vec<_> = ids.iter().map(|id| id_day(*id).map_or(-1, |day| i32::try_from(day.0).unwrap())).collect();
    assert_eq!(days, expected);
    assert!(expected.iter().filter(|day| **day >= 0).count() > 50);
}

#[tokio::test]
async fn programs_of_an_earlier_version_go_on_until_the_tables_are_partitioned() {
    let (server, url) = database().await;
    let store = store(&url).await;
    let mut superuser = PgConnection::connect(&server.superuser_url()).await.unwrap();
    sqlx::query("CREATE ROLE reporting").execute(&mut superuser).await.unwrap();
    execute(&url, "GRANT SELECT ON events TO reporting").await.unwrap();
    execute(&url, "CREATE VIEW latest AS SELECT max(timestamp_ms) AS at, count(*) AS events FROM events")
        .await
        .unwrap();
    let now = SystemClock.now();
    let insert = |number: u64| {
        format!(
            "INSERT INTO events (id, timestamp_ms) VALUES ('{}', {now}) ON CONFLICT (id) DO NOTHING",
            id(number, now)
        )
    };
    assert_eq!(execute(&url, insert(1)).await.unwrap(), 1);
    store.move_cutoff(Day::of(now).back(3), now).await.unwrap();
    assert_eq!(execute(&url, insert(1)).await.unwrap(), 0);
    let ahead = id(7, now + 90 * DAY);
    let sql = format!("INSERT INTO events (id, timestamp_ms) VALUES ('{ahead}', {now})");
    assert_eq!(execute(&url, sql).await.unwrap(), 1);
    store.prepare_days(Day::of(now)).await.unwrap();
    execute(&url, insert(2)).await.unwrap_err();
    let plain = format!("INSERT INTO events (id, timestamp_ms) VALUES ('{}', {now})", id(3, now));
    execute(&url, plain).await.unwrap_err();
    // What was there is known, wherever it is now, and views follow.
    let writer = store.open_writer(LEASE).await.unwrap();
    let repeated = vec![dated(1, now), Event { id: ahead, ..dated(7, now) }, dated(9, now)];
    let committed = store.commit(&batch(writer, 1, repeated)).await.unwrap();
    assert_eq!(committed.known, [id(1, now), ahead].into());
    assert_eq!(number(&url, "SELECT count(*) FROM pings").await, 3);
    assert_eq!(number(&url, "SELECT events FROM latest").await, 3);
    assert_eq!(number(&url, "SELECT has_table_privilege('reporting', 'events', 'SELECT')::int::bigint").await, 1);
    assert_eq!(number(&url, "SELECT count(*) FROM events_rest").await, 1);
    // Its day comes.
    store.prepare_days(Day::of(now + 89 * DAY)).await.unwrap();
    assert_eq!(number(&url, "SELECT count(*) FROM events_rest").await, 0);
    assert_eq!(store.find(&[ahead]).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_that_are_rebuilt_while_days_are_dropped_are_complete() {
    let (_server, url) = database().await;
    let store = store(&url).await;
    let now = SystemClock.now();
    fill(&url, 30_000, now).await;
    let cutoffs = Retention::default().at(now);
    let rebuild = async |held: i32| {
        let seen = (held > 0).then(|| held.to_string());
        let rebuilt = store.rebuild(seen.as_ref(), &(held + 1).to_string(), &[(0, 0)].into(), cutoffs).await.unwrap();
        assert!(rebuilt);
    };
    rebuild(0).await;
    let views = "SELECT sum(events)::bigint FROM source_segments WHERE family = 0";
    let before = number(&url, views).await;
    let dropping = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for days in (0..9).rev() {
                // A rebuild may be running for longer than a step waits.
                let step = async || {
                    store.move_cutoff(Day::of(now).back(days), now).await?;
                    store.prepare_days(Day::of(now)).await?;
                    store.drop_expired(cutoffs).await
                };
                while step().await.is_err() {
                    sleep(Duration::from_millis(20)).await;
                }
            }
        })
    };
    let mut rebuilds = 1;
    while !dropping.is_finished() {
        rebuild(rebuilds).await;
        rebuilds += 1;
        assert_eq!(number(&url, views).await, before);
        // Or no day could be dropped.
        sleep(Duration::from_millis(50)).await;
    }
    dropping.await.unwrap();
    rebuild(rebuilds).await;
    assert_eq!(number(&url, views).await, before);
    assert!(number(&url, "SELECT count(*) FROM events").await < 4_000);
    let sums = ping_ports::ViewAudit::view_sums(&*store).await.unwrap().unwrap();
    assert_eq!(ping_ports::compare_views(None, &sums, cutoffs), None);
}

#[tokio::test]
async fn a_day_that_someone_reads_is_left_at_once() {
    let (_server, url) = database().await;
    let store = store(&url).await;
    let (today, at) = (Day::of(THEN), THEN + 5 * DAY);
    store.move_cutoff(today, THEN).await.unwrap();
    store.prepare_days(today).await.unwrap();
    let writer = store.open_writer(LEASE).await.unwrap();
    store.commit(&batch(writer, 1, vec![dated(1, at)])).await.unwrap();
    store.move_cutoff(Day(Day::of(at).0 + 1), at).await.unwrap();
    let mut reader = PgConnection::connect(&url).await.unwrap();
    let mut reading = reader.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM events").execute(&mut *reading).await.unwrap();
    let (began, cutoffs) = (Instant::now(), Retention::default().at(at));
    store.drop_expired(cutoffs).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    reading.rollback().await.unwrap();
    assert_eq!(store.drop_expired(cutoffs).await.unwrap(), Some(1));
}
