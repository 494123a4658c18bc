//! The long run: periods of load with a random fault each. Between two periods nothing is sent: then every answer is checked, the cache is compared
//! with the rows, and what must not grow is measured. `HOURS=n` sets how long (default 1), `SEED=n` the faults.

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use ping_history::History;
use ping_testbed::Parts;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sqlx::PgPool;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    callers::{CALLERS, Load, call},
    check_answers, flowing, kill,
    processes::{Pingd, pipeline},
    readers::{Question, read},
    settle,
};

/// Load before and after the fault of a period.
const BEFORE: Duration = Duration::from_secs(10);
const AFTER: Duration = Duration::from_secs(20);
/// How long a component is stopped without being killed.
const PAUSE: Duration = Duration::from_secs(5);
/// The least number of periods from which growth can be seen.
const PERIODS: usize = 9;

const KILLED: [&str; 6] = ["server", "processor", "kafka", "postgres", "cache with its data", "cache without its data"];
const PAUSED: [&str; 3] = ["kafka", "postgres", "cache"];

/// What a process or a table used, per period.
type Samples = BTreeMap<String, Vec<f64>>;

/// Two servers and two processors. The first ones are never killed, so that their growth is seen.
struct Pipeline {
    parts: Parts,
    server: Pingd,
    processor: Pingd,
    killed_server: Pingd,
    killed_processor: Pingd,
}

impl Pipeline {
    async fn start() -> Self {
        let (parts, server, processor) = pipeline().await;
        let (killed_server, killed_processor) = tokio::join!(Pingd::server(&parts), Pingd::processor(&parts, &[]));
        Self { parts, server, processor, killed_server, killed_processor }
    }

    /// Causes a random fault and undoes it; returns its name.
    async fn fault(&mut self, rng: &mut StdRng) -> String {
        let which = rng.random_range(0..KILLED.len() + PAUSED.len());
        let Some(paused) = which.checked_sub(KILLED.len()) else {
            let victim = KILLED[which];
            kill(victim, &mut self.parts, &mut self.killed_server, &mut self.killed_processor).await;
            return format!("{victim} killed");
        };
        let pid = match PAUSED[paused] {
            "kafka" => self.parts.kafka.pid(),
            "postgres" => self.parts.postgres.pid(),
            _ => self.parts.redis.pid(),
        };
        let pid = pid.unwrap();
        // Postgres has a process per connection.
        let processes: Vec<_> =
            pid.descendants().into_iter().chain([pid]).map(|pid| pid.number().to_string()).collect();
        // Some of them may have ended meanwhile.
        let signal = |name: &str| Command::new("kill").arg(name).args(&processes).output().unwrap();
        signal("-STOP");
        sleep(PAUSE).await;
        signal("-CONT");
        format!("{} paused for {PAUSE:?}", PAUSED[paused])
    }

    /// Measures what must not grow.
    async fn measure(&self, pool: &PgPool, samples: &mut Samples) {
        let mut add = |name: String, value: f64| samples.entry(name).or_default().push(value);
        for (name, process) in [("server", &self.server), ("processor", &self.processor)] {
            add(format!("{name}: memory, MiB"), memory(process.pid()) as f64 / f64::from(1 << 20));
            add(format!("{name}: file descriptors"), file_descriptors(process.pid()) as f64);
        }
        let outbox: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(pool).await.unwrap();
        add("outbox: rows".into(), outbox as f64);
        let sizes = "SELECT relname::text, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
        for (table, bytes) in sqlx::query_as::<_, (String, i64)>(sizes).fetch_all(pool).await.unwrap() {
            add(format!("{table}: size, MiB"), bytes as f64 / f64::from(1 << 20));
        }
    }
}

/// The memory of a process that is resident, in bytes.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn file_descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Tables that keep something of every event, or of every minute: they grow with what was recorded.
const GROWING: [&str; 6] =
    ["events", "millisecond_counts", "rollups", "source_segments", "source_windows", "source_past_days"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes an hour: make soak"]
async fn nothing_grows_over_hours_of_faults() {
    let hours: f64 = std::env::var("HOURS").map_or(1.0, |hours| hours.parse().expect("HOURS is a number"));
    let seed = std::env::var("SEED").ok().filter(|seed| !seed.is_empty());
    let seed: u64 = seed.map_or_else(rand::random, |seed| seed.parse().expect("SEED is a whole number"));
    println!("HOURS={hours} SEED={seed}");
    let (mut rng, started) = (StdRng::seed_from_u64(seed), Instant::now());
    let mut pipeline = Pipeline::start().await;
    let pool = PgPool::connect(&pipeline.parts.postgres.url()).await.unwrap();
    let (mut samples, mut acknowledged, mut rows) = (Samples::new(), 0, 0);
    for period in 1.. {
        let load = Arc::new(Load { history: Mutex::new(History::after(rows)), ..Load::default() });
        let mut callers = JoinSet::new();
        let servers = [&pipeline.server.api, &pipeline.killed_server.api];
        for caller in 0..CALLERS {
            callers.spawn(call(Arc::clone(&load), servers[caller % 2].clone(), caller));
        }
        for question in Question::ALL {
            callers.spawn(read(Arc::clone(&load), pipeline.server.api.clone(), question));
        }
        sleep(BEFORE).await;
        let fault = pipeline.fault(&mut rng).await;
        let waited = flowing(&load).await;
        sleep(AFTER).await;
        load.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
        let settled;
        (rows, settled) = settle(&pipeline.parts, &pool).await.unwrap();
        check_answers(&load);
        acknowledged += load.acknowledged.lock().len() as i64;
        assert!(rows >= acknowledged, "{acknowledged} events were acknowledged, and there are {rows} rows");
        pipeline.measure(&pool, &mut samples).await;
        println!("period {period}: {fault}; acknowledged again after {waited:?}; {rows} rows, equal after {settled:?}");
        if period >= PERIODS && started.elapsed().as_secs_f64() >= hours * 3600.0 {
            break;
        }
    }
    report(&samples, started.elapsed());
}

/// Prints every slope, and fails if something grows that must not.
fn report(samples: &Samples, took: Duration) {
    let mut growing = Vec::new();
    for (name, values) in samples {
        let third = values.len() / 3;
        // The first third warms caches and pools up.
        let (middle, last) = (median(&values[third..2 * third]), median(&values[2 * third..]));
        let per_hour = (last - middle) / (took.as_secs_f64() / 3.0) * 3600.0;
        println!("{name:48} {middle:10.2} -> {last:10.2}  {per_hour:+.2} per hour");
        let may_grow = GROWING.iter().any(|table| name.starts_with(table));
        let tolerated = middle * 1.1 + if name.ends_with("MiB") { 8.0 } else { 5.0 };
        if !may_grow && last > tolerated {
            growing.push(name);
        }
    }
    assert!(growing.is_empty(), "{growing:?} grow");
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[test]
fn growth_is_noticed() {
    let took = Duration::from_secs(3600);
    let samples = |values: [f64; 9]| Samples::from([("server: memory, MiB".to_owned(), values.to_vec())]);
    report(&samples([10.0, 50.0, 60.0, 61.0, 60.0, 62.0, 61.0, 60.0, 63.0]), took);
    let grows = samples([10.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0, 110.0, 120.0]);
    assert!(std::panic::catch_unwind(|| report(&grows, took)).is_err());
}
