//! The chaos test: kills every component with `kill -9` under load, repeatedly. No answer in between breaks a promise. At the end every
//! acknowledged id is in Postgres, and Postgres and the cache agree minute by minute. `ROUNDS=n` sets the number of rounds (default 3).
#![cfg(test)]
#![allow(
    unreachable_pub,
    missing_docs,
    dead_code,
    reason = "a test binary has no callers; the process helpers are shared with the pipeline tests"
)]

mod callers;
mod clocks;
mod network;
#[path = "../pipeline/processes.rs"]
mod processes;
mod readers;
mod replication;
mod resources;
mod soak;
mod upgrades;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use callers::{CALLERS, Load, call};
use ping_testbed::Parts;
use processes::{Pingd, TIMEOUT, pipeline};
use readers::{Question, read};
use serde_json::json;
use sqlx::PgPool;
use tokio::{task::JoinSet, time::sleep};

/// Longest wait for what only takes longer on a busy machine.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until events are acknowledged again; returns how long that took.
async fn flowing(load: &Load) -> Duration {
    let (started, before) = (Instant::now(), load.count.load(Ordering::Relaxed));
    while load.count.load(Ordering::Relaxed) < before + 50 {
        assert!(started.elapsed() < Duration::from_secs(60), "no event was acknowledged for a minute");
        sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

const VICTIMS: [&str; 6] =
    ["server", "processor", "kafka", "postgres", "cache with its data", "cache without its data"];

async fn kill(victim: &str, parts: &mut Parts, server: &mut Pingd, processor: &mut Pingd) {
    match victim {
        "server" => {
            server.kill_9().await;
            server.restart();
        }
        "processor" => {
            processor.kill_9().await;
            processor.restart();
        }
        "kafka" => {
            parts.kafka.kill_9().await.unwrap();
            parts.kafka.restart().await.unwrap();
        }
        "postgres" => {
            parts.postgres.kill_9().await.unwrap();
            parts.postgres.restart().await.unwrap();
        }
        "cache with its data" => {
            parts.redis.kill_9().await.unwrap();
            parts.redis.restart_with_data().await.unwrap();
        }
        _ => {
            parts.redis.kill_9().await.unwrap();
            parts.redis.restart_empty().await.unwrap();
        }
    }
}

type Minutes = BTreeMap<i64, i64>;

async fn rows(pool: &PgPool) -> Minutes {
    let rows = "SELECT timestamp_ms / 60000, count(*) FROM events GROUP BY 1";
    sqlx::query_as::<_, (i64, i64)>(rows).fetch_all(pool).await.unwrap().into_iter().collect()
}

async fn cached(parts: &Parts) -> Option<(i64, Minutes)> {
    let client = redis::Client::open(parts.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.ok()?;
    let mut fields: BTreeMap<String, i64> =
        redis::cmd("HGETALL").arg("ping:counters").query_async(&mut connection).await.ok()?;
    let total = fields.remove("total")?;
    let minutes = fields.into_iter().map(|(field, count)| (field["minute:".len()..].parse().unwrap(), count));
    Some((total, minutes.collect()))
}

/// Events acknowledged and counts answered so far.
fn progress(load: &Load) -> (u64, usize) {
    (load.count.load(Ordering::Relaxed), load.history.lock().sizes()[2])
}

/// Waits for `duration`, and then until more events were acknowledged, if `writes`, and more counts answered, if `reads`, than calls were in
/// flight before. Returns how many.
async fn works_for(load: &Load, duration: Duration, writes: bool, reads: bool) -> Result<(u64, usize), String> {
    let (started, before) = (Instant::now(), progress(load));
    loop {
        sleep(Duration::from_millis(20)).await;
        let after = progress(load);
        let (events, counts) = (after.0 - before.0, after.1 - before.1);
        let works = (!writes || events > CALLERS as u64) && (!reads || counts > Question::ALL.len());
        if started.elapsed() >= duration && works {
            return Ok((events, counts));
        }
        if started.elapsed() > duration + SETTLE_TIMEOUT {
            return Err(format!("{events} events acknowledged, {counts} counts answered in {:?}", started.elapsed()));
        }
    }
}

/// Waits until the cache equals the rows, minute by minute; the number of rows, and how long that took.
async fn settle(parts: &Parts, pool: &PgPool) -> Result<(i64, Duration), String> {
    let quiet = Instant::now();
    let rows = rows(pool).await;
    let total: i64 = rows.values().sum();
    loop {
        let cached = cached(parts).await;
        if cached.as_ref() == Some(&(total, rows.clone())) {
            return Ok((total, quiet.elapsed()));
        }
        if quiet.elapsed() > SETTLE_TIMEOUT {
            let what = match &cached {
                Some((cached, _)) if *cached > total => "events are counted twice",
                Some((cached, _)) if *cached == total => "events are in other minutes",
                _ => "events are late",
            };
            return Err(format!(
                "{what}: after {SETTLE_TIMEOUT:?} of quiet the rows are {rows:?} ({total}), the cache {cached:?}"
            ));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_counted_twice_whatever_is_killed() {
    let rounds: usize = std::env::var("ROUNDS").map_or(3, |rounds| rounds.parse().expect("ROUNDS is a whole number"));
    let (mut parts, mut server, mut processor) = pipeline().await;
    let (load, callers) = start_load(&server.api);
    flowing(&load).await;
    for round in 1..=rounds {
        for victim in VICTIMS {
            kill(victim, &mut parts, &mut server, &mut processor).await;
            let waited = flowing(&load).await;
            println!("round {round}: {victim} killed and back; events are acknowledged again after {waited:?}");
            sleep(Duration::from_millis(500)).await;
        }
    }
    let pool = PgPool::connect(&parts.postgres.url()).await.unwrap();
    finish(&load, callers, &parts, &pool, &[&server, &processor]).await;
    check_answers(&load);
}

/// Waits until an exact answer from the cache includes everything acknowledged before now; returns how long it took. Says nothing about
/// `as_of`, which is the time of a clock that may be wrong.
async fn exact(server: &Pingd, load: &Load) -> Duration {
    let (started, acknowledged) = (Instant::now(), load.count.load(Ordering::Relaxed));
    loop {
        let (_, answer) = server.call("PingCount", &json!({})).await.unwrap();
        let count = answer["pingCount"].as_str().unwrap().parse::<u64>().unwrap();
        if answer["exact"] == true && answer["store"] == "STORE_CACHE" && count >= acknowledged {
            return started.elapsed();
        }
        assert!(started.elapsed() < TIMEOUT, "{acknowledged} acknowledged: {answer}\n{}", server.log_tail());
        sleep(Duration::from_millis(20)).await;
    }
}

/// Starts callers of `api`.
fn start_callers(api: &str) -> (Arc<Load>, JoinSet<()>) {
    let load = Arc::new(Load::default());
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(call(Arc::clone(&load), api.to_owned(), caller));
    }
    (load, callers)
}

/// Starts callers and readers of `api`.
fn start_load(api: &str) -> (Arc<Load>, JoinSet<()>) {
    let (load, mut callers) = start_callers(api);
    for question in Question::ALL.into_iter().chain([Question::Range]) {
        callers.spawn(read(Arc::clone(&load), api.to_owned(), question));
    }
    (load, callers)
}

/// Stops the load, and checks that nothing was lost or counted twice.
async fn finish(load: &Load, mut callers: JoinSet<()>, parts: &Parts, pool: &PgPool, processes: &[&Pingd]) {
    load.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let acknowledged = load.acknowledged.lock().clone();
    let present: i64 = sqlx::query_scalar("SELECT count(*) FROM events WHERE id = ANY($1)")
        .bind(&acknowledged)
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(present, acknowledged.len() as i64, "lost: acknowledged events are not in Postgres");
    let (total, settled) = settle(parts, pool).await.unwrap_or_else(|differs| {
        let logs: Vec<_> = processes.iter().map(|process| process.log_tail()).collect();
        panic!("{differs}\n{}", logs.join("\n"))
    });
    println!(
        "{} acknowledged, {} retries, {total} rows, cache equal {settled:?} after the last acknowledgement",
        acknowledged.len(),
        load.retries.load(Ordering::Relaxed)
    );
    assert!(total >= present);
}

/// Checks every answer that callers and readers got.
fn check_answers(load: &Load) {
    let history = load.history.lock();
    let [events, acknowledged, counts, statuses] = history.sizes();
    println!("history: {events} events, {acknowledged} acknowledged, {counts} counts, {statuses} statuses");
    assert!(counts > 100 && statuses > 30, "the readers must see something");
    let violations = history.check();
    let first: String = violations.iter().take(20).map(|found| format!("{found}\n")).collect();
    assert!(violations.is_empty(), "{} violations, the first ones:\n{first}", violations.len());
}
