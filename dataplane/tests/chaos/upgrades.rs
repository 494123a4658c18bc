//! Rolling upgrades from an earlier build and back, under load: `make upgrades FROM=REVISION`. Some rollouts stop half-way and go back.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ping_testbed::Parts;
use sqlx::PgPool;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    callers::{CALLERS, Load, call},
    check_answers, exact, finish, flowing,
    processes::{Pingd, program},
    readers::{Question, read},
};

/// Every which rollout stops half-way and goes back.
const HALF_EVERY: usize = 4;
/// How long both builds run side by side.
const SIDE_BY_SIDE: Duration = Duration::from_millis(500);

/// Two servers and two processors.
struct Replicas([Pingd; 4]);

impl Replicas {
    async fn start(parts: &Parts, path: &str) -> Self {
        let start = |program| Pingd::start_build(path, program, parts.env().to_vec());
        // The first server makes the schema.
        let first = start("server").await;
        let (second, third, fourth) = tokio::join!(start("server"), start("processor"), start("processor"));
        Self([first, second, third, fourth])
    }

    /// Replaces one after the other: first a server and a processor, then the others.
    async fn roll_out(&mut self, path: &str, half: bool, load: &Load) {
        for (done, replica) in [0, 2, 1, 3].into_iter().enumerate() {
            if half && done == 2 {
                return;
            }
            self.0[replica].replace(path).await;
            flowing(load).await;
            sleep(SIDE_BY_SIDE).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an earlier build: make upgrades FROM=REVISION"]
async fn rolling_upgrades_and_rollbacks_lose_and_double_nothing() {
    let old = std::env::var("OLD_PINGD").expect("OLD_PINGD is the path of an earlier pingd");
    let rounds: usize = std::env::var("UPGRADES").map_or(20, |rounds| rounds.parse().expect("a whole number"));
    let new = program();
    let parts = Parts::start().await.unwrap();
    Pingd::migrate_build(&old, &parts).await;
    let mut replicas = Replicas::start(&parts, &old).await;
    let (load, mut callers) = (Arc::new(Load::default()), JoinSet::new());
    for caller in 0..CALLERS {
        callers.spawn(call(Arc::clone(&load), replicas.0[caller % 2].api.clone(), caller));
    }
    for question in Question::ALL {
        callers.spawn(read(Arc::clone(&load), replicas.0[1].api.clone(), question));
    }
    flowing(&load).await;
    let mut rollouts = BTreeMap::new();
    for round in 1..=rounds {
        for (what, path, back) in [("upgrade", &new, &old), ("rollback", &old, &new)] {
            let half = round % HALF_EVERY == 0;
            replicas.roll_out(path, half, &load).await;
            if half {
                replicas.roll_out(back, half, &load).await;
                replicas.roll_out(path, false, &load).await;
            }
            *rollouts.entry(what).or_insert(0) += 1;
            let (events, retries) = (load.count.load(Ordering::Relaxed), load.retries.load(Ordering::Relaxed));
            let exact = exact(&replicas.0[0], &load).await;
            println!("{what} {round}: {events} events acknowledged, {retries} retries so far, exact after {exact:?}");
        }
    }
    println!("{rollouts:?}");
    let pool = PgPool::connect(&parts.postgres.url()).await.unwrap();
    finish(&load, callers, &parts, &pool, &replicas.0.each_ref()).await;
    check_answers(&load);
}
