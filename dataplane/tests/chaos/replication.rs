//! The link between Postgres' primary and its synchronous standby fails: cut, slow, losing packets.

use std::time::Duration;

use ping_testbed::{
    Parts, Postgres,
    link::{Link, LinkState},
    ports::free_port,
};
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::{
    callers::CALLERS,
    check_answers, exact, finish, flowing,
    network::{DELAY, LOSS_PERCENT},
    processes::Pingd,
    start_load, works_for,
};

/// How long the link is bad.
const BAD: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_standby_behind_a_bad_link_costs_nothing_but_time() {
    let parts = Parts::start().await.unwrap();
    let link = Link::start(free_port().unwrap(), parts.postgres.port()).await.unwrap();
    let _standby = Postgres::start_standby(link.port()).await.unwrap();
    let mut superuser = PgConnection::connect(&parts.postgres.superuser_url()).await.unwrap();
    for sql in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
        sqlx::query(sql).execute(&mut superuser).await.unwrap();
    }
    Pingd::migrate(&parts).await;
    let (server, processor) = tokio::join!(Pingd::server(&parts), Pingd::processor(&parts, &[]));
    let (load, callers) = start_load(&server.api);
    flowing(&load).await;
    let good = LinkState::default();
    for (what, state, writes) in [
        ("what the standby sends is cut", LinkState { requests_cut: true, ..good }, false),
        ("what it receives is cut", LinkState { responses_cut: true, ..good }, false),
        ("200 ms more in each direction", LinkState { delay: DELAY, ..good }, true),
        ("5 % loss", LinkState { loss_percent: LOSS_PERCENT, ..good }, true),
    ] {
        link.set(state);
        let works = works_for(&load, BAD, writes, true).await;
        link.set(good);
        let (events, counts) = works.unwrap_or_else(|wrong| panic!("{what}: {wrong}\n{}", server.log_tail()));
        assert!(writes || events <= CALLERS as u64, "{what}: {events} events were acknowledged without the standby");
        let waited = flowing(&load).await;
        let exact = exact(&server, &load).await;
        println!(
            "standby, {what} for {BAD:?}: {events} events acknowledged, {counts} counts answered; then acknowledged after {waited:?}, exact after {exact:?}"
        );
    }
    let pool = PgPool::connect(&parts.postgres.url()).await.unwrap();
    finish(&load, callers, &parts, &pool, &[&server, &processor]).await;
    check_answers(&load);
}
