//! Servers that share a quota through Postgres, while one joins and one dies.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ping_testbed::Parts;
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    policy::PolicyFile,
    processes::Pingd,
    quotas::{policy, send_all},
    scopes::{ask, count},
};

/// Events per second.
const QUOTA: f64 = 100.0;
const BATCH: u64 = 10;

/// Callers that send to `api` more than the quota allows.
fn load(callers: &mut JoinSet<()>, pingd: &Pingd, acknowledged: &Arc<AtomicU64>) {
    for _ in 0..8 {
        let (url, acknowledged) = (format!("{}/ping.v1.EventService/RecordBatch", pingd.api), Arc::clone(acknowledged));
        callers.spawn(async move {
            let http = reqwest::Client::new();
            let batch = json!({"events": vec![json!({"source": "s"}); 10]});
            loop {
                let answer = http.post(&url).bearer_auth("t-a").json(&batch).send().await;
                match answer.map(|answer| answer.status().as_u16()) {
                    Ok(200) => {
                        acknowledged.fetch_add(BATCH, Ordering::Relaxed);
                    }
                    // Often enough to use up the quota, and no load that slows the servers down.
                    Ok(429) => sleep(Duration::from_millis(50)).await,
                    Ok(status) => panic!("{url}: {status}"),
                    // It was killed.
                    Err(_) => sleep(Duration::from_millis(100)).await,
                }
            }
        });
    }
}

/// What is acknowledged in ten seconds, as a part of the quota.
async fn part_of_quota(acknowledged: &AtomicU64) -> f64 {
    let (before, started) = (acknowledged.load(Ordering::Relaxed), Instant::now());
    sleep(Duration::from_secs(10)).await;
    let events = acknowledged.load(Ordering::Relaxed) - before;
    events as f64 / QUOTA / started.elapsed().as_secs_f64()
}

#[tokio::test]
async fn three_servers_stay_within_ten_percent_of_a_quota_while_one_joins_and_one_dies() {
    let parts = Parts::start().await.unwrap();
    Pingd::migrate(&parts).await;
    let file = PolicyFile::new(&policy("- {name: shared, callers: [\"token:a\"], eventsPerSecond: 100}"));
    let path = file.path();
    let args = ["--access-policy", path.to_str().unwrap()];
    let (mut first, second) = tokio::join!(Pingd::server_with(&parts, &args), Pingd::server_with(&parts, &args));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    load(&mut callers, &first, &acknowledged);
    load(&mut callers, &second, &acknowledged);
    // The burst.
    sleep(Duration::from_secs(3)).await;
    let two = part_of_quota(&acknowledged).await;
    let third = Pingd::server_with(&parts, &args).await;
    load(&mut callers, &third, &acknowledged);
    let joined = part_of_quota(&acknowledged).await;
    first.kill_9().await;
    let died = part_of_quota(&acknowledged).await;
    callers.shutdown().await;
    println!("parts of the quota: two servers {two:.3}, one joined {joined:.3}, one died {died:.3}");
    for part in [two, joined, died] {
        assert!((0.9..=1.1).contains(&part), "two servers {two:.3}, one joined {joined:.3}, one died {died:.3}");
    }
    let recorded: u64 = count(&second).await.as_str().unwrap().parse().unwrap();
    let acknowledged = acknowledged.load(Ordering::Relaxed);
    assert!(recorded >= acknowledged, "{acknowledged} acknowledged, {recorded} recorded");
}

#[tokio::test]
async fn servers_share_the_budget_of_new_sources_and_a_restart_does_not_renew_it() {
    let parts = Parts::start().await.unwrap();
    Pingd::migrate(&parts).await;
    let file = PolicyFile::new(&policy("- {name: names, callers: [\"token:a\"], newSourcesPerDay: 30}"));
    let path = file.path();
    let args = ["--access-policy", path.to_str().unwrap()];
    let _processor = Pingd::processor(&parts, &[]).await;
    let (mut first, second) = tokio::join!(Pingd::server_with(&parts, &args), Pingd::server_with(&parts, &args));
    crate::new_names::built(&first).await;
    let flood = async |pingd: &Pingd, from: usize| {
        let sources = (from..from + 100).map(|number| json!({"source": format!("s{number}")}));
        let statuses = send_all(pingd, "EventService/Record", sources).await;
        assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
        statuses.into_iter().map(|status| status == 200).collect::<Vec<_>>()
    };
    let (one, other) = tokio::join!(flood(&first, 0), flood(&second, 100));
    let admitted = one.iter().chain(&other).filter(|admitted| **admitted).count();
    assert_eq!(admitted, 30);
    first.kill_9().await;
    first.restart();
    first.wait_ready().await;
    let again = flood(&first, 200).await.iter().filter(|admitted| **admitted).count();
    assert_eq!(again, 0);
    let admitted_before =
        one.iter().position(|admitted| *admitted).map_or("known".to_owned(), |number| format!("s{number}"));
    let known = ask(&first, "EventService/Record", "t-a", json!({"source": admitted_before})).await;
    assert_eq!(known.0, 200, "{known:?}");
}

/// Records one event; the status, and the answer's `ping-outcome`.
async fn record(http: &reqwest::Client, pingd: &Pingd, event_id: &str) -> (u16, Option<String>) {
    let body = json!({"source": "s", "eventId": event_id, "timestampMs": "1728926331000"});
    let call = http.post(format!("{}/ping.v1.EventService/Record", pingd.api)).bearer_auth("t-a").json(&body);
    let answer = call.timeout(Duration::from_secs(15)).send().await.expect("an answer in time");
    let outcome = answer.headers().get("ping-outcome").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), outcome)
}

#[tokio::test]
async fn without_postgres_calls_with_quotas_are_refused_in_time_and_a_retry_counts_each_event_once() {
    let mut parts = Parts::start().await.unwrap();
    Pingd::migrate(&parts).await;
    let file =
        PolicyFile::new(&policy("- {name: few, callers: [\"token:a\"], eventsPerSecond: 1000, newSourcesPerDay: 10}"));
    let pingd = Pingd::server_with(&parts, &["--access-policy", file.path().to_str().unwrap()]).await;
    let ids: Vec<_> = (0..60).map(|number| format!("7d444840-9dc0-11d1-b245-{number:012}")).collect();
    let http = reqwest::Client::new();
    let (before, during) = ids.split_at(20);
    for id in before {
        assert_eq!(record(&http, &pingd, id).await.0, 200);
    }
    parts.postgres.kill_9().await.unwrap();
    // What the server has taken ahead may admit some of them: these are refused by the write path.
    let calls = during.iter().map(|id| record(&http, &pingd, id));
    for (status, outcome) in futures::future::join_all(calls).await {
        assert_eq!(status, 503);
        assert!(outcome.is_some(), "a program must know whether anything was recorded");
    }
    // Later nothing is left of it.
    sleep(Duration::from_secs(2)).await;
    let refused = record(&http, &pingd, &ids[59]).await;
    assert_eq!(refused, (503, Some("nothing-recorded".to_owned())));
    parts.postgres.restart().await.unwrap();
    pingd.wait_ready().await;
    for id in &ids {
        assert_eq!(record(&http, &pingd, id).await.0, 200, "{id}\n{}", pingd.log_tail());
    }
    assert_eq!(count(&pingd).await, "60");
}
