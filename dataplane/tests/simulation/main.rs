//! The fault simulation: the product's own lanes, publishers, relays, processors, rebuilds and audits over the memory
//! adapters, with seeded faults at every await point and in virtual time. A seed determines a schedule completely.
//!
//! `SCHEDULES=n` sets how many schedules to run (default 10,000), `SEED=n` replays one. `MINUTES=n` ends the run early.
//! `BUG=name` plants only this bug.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, reason = "a test binary has no callers")]

mod bugs;
mod cache;
mod clients;
mod dropping;
mod log;
mod reader;
mod report;
mod rng;
mod statuses;
mod store;
mod topic;
mod view_audit;
mod views;
mod world;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bugs::Bug;
use report::Report;
use world::run;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is \"{text}\"; it must be a whole number")))
}

/// The result of a search.
struct Search {
    /// The seed and message of a failure.
    failure: Option<(u64, String)>,
    /// How many schedules ended.
    schedules: u64,
    sum: Report,
}

/// Runs `schedules` schedules from `first` on, on all cores, until one fails. Begins none after `limit`.
fn search(first: u64, schedules: u64, bug: Option<Bug>, limit: Duration) -> Search {
    let (next, ended, started) = (AtomicU64::new(first), AtomicU64::new(0), Instant::now());
    let worker = || {
        let mut sum = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + schedules || started.elapsed() > limit {
                return (None, sum);
            }
            match run(seed, bug) {
                Ok(report) => {
                    ended.fetch_add(1, Ordering::Relaxed);
                    sum.add(&report);
                }
                Err(wrong) => {
                    next.store(u64::MAX / 2, Ordering::Relaxed);
                    return (Some((seed, wrong)), sum);
                }
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        let mut failure = None;
        let mut sum = Report::default();
        for worker in workers {
            let (failed, report) = worker.join().unwrap();
            sum.add(&report);
            failure = failure.or(failed);
        }
        Search { failure, schedules: ended.load(Ordering::Relaxed), sum }
    })
}

#[test]
fn every_schedule_ends_exact() {
    let (first, schedules) = match variable("SEED") {
        Some(seed) => (seed, 1),
        None => (0, variable("SCHEDULES").unwrap_or(10_000)),
    };
    let limit = variable("MINUTES").map_or(Duration::MAX, |minutes| Duration::from_secs(60 * minutes));
    let started = Instant::now();
    let Search { failure, schedules, sum } = search(first, schedules, None, limit);
    println!("{schedules} schedules, {:.0} per second: {sum:?}", schedules as f64 / started.elapsed().as_secs_f64());
    if let Some((seed, wrong)) = failure {
        panic!("schedule {seed} went wrong: {wrong}\nreplay it with: make simulate SEED={seed}");
    }
    if schedules >= 1_000 {
        assert!(
            sum.rollbacks > 0
                && sum.phantoms > 0
                && sum.replayed > 0
                && sum.rebuilds > schedules
                && sum.fenced > 0
                && sum.stale > 0
                && sum.other_logs > 0
                && sum.outgrown > 0
                && sum.unnoticed * 20 < sum.recreations
                && sum.old_statuses > 0
                && sum.earlier_epochs > 0
                && sum.statuses > schedules
                && sum.edits > 0
                && sum.dropped > schedules,
            "the faults must have an effect: {sum:?}"
        );
    }
}

#[test]
fn every_planted_bug_is_caught() {
    let only = std::env::var("BUG").unwrap_or_default();
    for bug in Bug::ALL.into_iter().filter(|bug| only.is_empty() || only == format!("{bug:?}")) {
        let Some((seed, wrong)) = search(0, 2_000, Some(bug), Duration::MAX).failure else {
            panic!("2,000 schedules did not notice {bug:?}")
        };
        println!("{bug:?}: schedule {seed}: {}", wrong.lines().next().unwrap_or_default());
    }
}

#[test]
fn a_seed_is_the_same_schedule_every_time() {
    for seed in 0..20 {
        assert_eq!(run(seed, None), run(seed, None), "seed {seed}");
    }
}
