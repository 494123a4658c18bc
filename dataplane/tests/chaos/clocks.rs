//! The clock of one machine jumps an hour ahead, an hour back, and to the right time again.

use std::time::Duration;

use ping_testbed::{
    Kafka, Parts, Postgres, Redis,
    clock::{Clock, JUMP_SECONDS},
};
use sqlx::PgPool;
use tokio::time::sleep;

use crate::{
    callers::Load, check_answers, exact, finish, flowing, processes::Pingd, start_callers, start_load, works_for,
};

const HOUR: i64 = 3_600;
/// How long a clock is wrong.
const WRONG: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_by_an_hour_loses_and_doubles_nothing() {
    let [of_server, of_processor] = [Clock::new().unwrap(), Clock::new().unwrap()];
    let parts = Parts::start().await.unwrap();
    Pingd::migrate(&parts).await;
    let with = |clock: &Clock| parts.env().into_iter().chain(clock.env()).collect();
    let (server, processor) = tokio::join!(
        Pingd::start_with_env("server", with(&of_server)),
        Pingd::start_with_env("processor", with(&of_processor))
    );
    let (load, callers) = start_load(&server.api);
    flowing(&load).await;
    for (name, clock) in [("server", &of_server), ("processor", &of_processor)] {
        jump(name, clock, &server, &load).await;
    }
    let pool = PgPool::connect(&parts.postgres.url()).await.unwrap();
    finish(&load, callers, &parts, &pool, &[&server, &processor]).await;
    check_answers(&load);
}

/// Its clock is the one of `as_of`. So nothing is said about answers until it is right again, but that they become exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_whose_clock_jumps_by_an_hour_loses_and_doubles_nothing() {
    let clock = Clock::new().unwrap();
    let (kafka, postgres, redis) =
        tokio::try_join!(Kafka::start(), Postgres::start_with_clock(&clock), Redis::start()).unwrap();
    let parts = Parts { postgres, kafka, redis };
    Pingd::migrate(&parts).await;
    let (server, processor) = tokio::join!(Pingd::server(&parts), Pingd::processor(&parts, &[]));
    let (load, callers) = start_callers(&server.api);
    flowing(&load).await;
    jump("Postgres", &clock, &server, &load).await;
    let pool = PgPool::connect(&parts.postgres.url()).await.unwrap();
    finish(&load, callers, &parts, &pool, &[&server, &processor]).await;
}

/// The cache's clock ends leases and holds of statuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_or_broker_whose_clock_jumps_by_an_hour_loses_and_doubles_nothing() {
    let [of_kafka, of_redis] = [Clock::new().unwrap(), Clock::new().unwrap()];
    let (kafka, postgres, redis) =
        tokio::try_join!(Kafka::start_with_clock(&of_kafka), Postgres::start(), Redis::start_with_clock(&of_redis))
            .unwrap();
    let parts = Parts { postgres, kafka, redis };
    Pingd::migrate(&parts).await;
    let (server, processor) = tokio::join!(Pingd::server(&parts), Pingd::processor(&parts, &[]));
    let (load, callers) = start_load(&server.api);
    flowing(&load).await;
    for (name, clock) in [("Kafka", &of_kafka), ("the cache", &of_redis)] {
        jump(name, clock, &server, &load).await;
    }
    let pool = PgPool::connect(&parts.postgres.url()).await.unwrap();
    finish(&load, callers, &parts, &pool, &[&server, &processor]).await;
    check_answers(&load);
}

/// Lets `clock` jump ahead, back, and to the right time.
async fn jump(name: &str, clock: &Clock, server: &Pingd, load: &Load) {
    for (what, seconds) in [("an hour ahead", HOUR), ("an hour behind", -HOUR), ("right again", 0)] {
        clock.set(seconds).unwrap();
        sleep(Duration::from_secs(JUMP_SECONDS)).await;
        let works = works_for(load, WRONG, true, false).await;
        let (events, _) = works.unwrap_or_else(|wrong| panic!("{wrong}\n{}", server.log_tail()));
        let exact = exact(server, load).await;
        println!("{name}, clock {what}: {events} events acknowledged in {WRONG:?}, exact after {exact:?}");
    }
}
