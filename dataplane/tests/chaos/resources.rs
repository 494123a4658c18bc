//! Disks that are slow or full, and memory that is used up.

use std::time::{Duration, Instant};

use ping_testbed::{Kafka, Parts, Postgres, Redis, cgroup::Cgroup, pid::Pid};
use sqlx::PgPool;
use tokio::time::sleep;

use crate::{
    check_answers, exact, finish, flowing,
    processes::{Pingd, TIMEOUT, pipeline},
    start_load, works_for,
};

/// Writes per second that are left to Postgres.
const SLOW_WRITES: u32 = 20;
const SLOW: Duration = Duration::from_secs(15);
/// The volume of Kafka, in MiB, and how long it is full.
const VOLUME: u32 = 64;
const FULL: Duration = Duration::from_secs(10);
/// More than a program needs to start.
const MEMORY: u64 = 256 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root: make chaos"]
async fn a_slow_disk_costs_nothing_but_time() {
    let (parts, server, processor) = pipeline().await;
    let (load, callers) = start_load(&server.api);
    flowing(&load).await;
    let limit = Cgroup::with_disk_writes("slow-disk", &parts.postgres.data(), SLOW_WRITES).unwrap();
    limit.add(parts.postgres.pid().unwrap()).unwrap();
    let works = works_for(&load, SLOW, true, false).await;
    let (events, _) = works.unwrap_or_else(|wrong| panic!("{wrong}\n{}", server.log_tail()));
    drop(limit);
    println!(
        "{SLOW_WRITES} writes per second for {SLOW:?}: {events} events acknowledged, again after {:?}",
        flowing(&load).await
    );
    let pool = PgPool::connect(&parts.postgres.url()).await.unwrap();
    finish(&load, callers, &parts, &pool, &[&server, &processor]).await;
    check_answers(&load);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root: make chaos"]
async fn a_program_that_the_kernel_kills_for_its_memory_loses_nothing() {
    let (parts, mut server, mut processor) = pipeline().await;
    let (load, callers) = start_load(&server.api);
    flowing(&load).await;
    for (name, program) in [("server", &mut server), ("processor", &mut processor)] {
        program.kill_9().await;
        program.restart();
        let limit = Cgroup::with_memory(&format!("memory-of-{name}"), MEMORY).unwrap();
        limit.add(Pid::of(program.pid()).unwrap()).unwrap();
        program.wait_ready().await;
        flowing(&load).await;
        let squeeze = async {
            loop {
                limit.leave_no_memory().unwrap();
                sleep(Duration::from_millis(20)).await;
            }
        };
        let signal = tokio::select! {
            signal = program.ended() => signal,
            () = squeeze => None,
        };
        assert_eq!(signal, Some(9), "the kernel kills with SIGKILL");
        drop(limit);
        program.restart();
        println!("{name} killed for its memory: acknowledged again after {:?}", flowing(&load).await);
    }
    println!("exact after {:?}", exact(&server, &load).await);
    let pool = PgPool::connect(&parts.postgres.url()).await.unwrap();
    finish(&load, callers, &parts, &pool, &[&server, &processor]).await;
    check_answers(&load);
}

/// Kafka ends when it cannot write. The outbox keeps what is recorded meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root: make chaos"]
async fn a_full_volume_of_kafka_costs_nothing_but_freshness() {
    let (kafka, postgres, redis) =
        tokio::try_join!(Kafka::start_on_volume(VOLUME), Postgres::start(), Redis::start()).unwrap();
    let mut parts = Parts { postgres, kafka, redis };
    Pingd::migrate(&parts).await;
    let (server, processor) = tokio::join!(Pingd::server(&parts), Pingd::processor(&parts, &[]));
    let (load, callers) = start_load(&server.api);
    flowing(&load).await;
    parts.kafka.fill_volume(0).unwrap();
    let started = Instant::now();
    while parts.kafka.is_running() {
        assert!(started.elapsed() < TIMEOUT, "Kafka still runs on a full volume");
        sleep(Duration::from_millis(100)).await;
    }
    let ended = started.elapsed();
    let works = works_for(&load, FULL, true, false).await;
    let (events, _) = works.unwrap_or_else(|wrong| panic!("{wrong}\n{}", server.log_tail()));
    parts.kafka.grow_volume(4 * VOLUME).await.unwrap();
    parts.kafka.restart().await.unwrap();
    let exact = exact(&server, &load).await;
    println!(
        "Kafka ended {ended:?} after its volume was full; {events} events acknowledged in {FULL:?}, exact {exact:?} after it was back"
    );
    let pool = PgPool::connect(&parts.postgres.url()).await.unwrap();
    finish(&load, callers, &parts, &pool, &[&server, &processor]).await;
    check_answers(&load);
}
