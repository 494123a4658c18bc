//! Breaks one part after the other until its alerts fire, and repairs it. In the end, every alert has resolved.

use std::time::{Duration, Instant};

use futures::future::join_all;
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord},
};
use redis::FromRedisValue;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    processes::{Pingd, TIMEOUT},
    scraped::Scraped,
    topic::recreate_topic,
};

/// A day: shorter than the week before which the alert fires.
const SHORT_LIFETIME: Duration = Duration::from_secs(86_400);
const LONG_LIFETIME: Duration = Duration::from_secs(1_000 * 86_400);
/// Larger batches are refused.
const BATCH_EVENTS: usize = 10_000;
/// Together they have more events than the queue of a server.
const BATCHES: usize = 7;

pub async fn drill(scraped: &mut Scraped) {
    let mut pings = JoinSet::new();
    pings.spawn(call_repeatedly(format!("{}/ping.v1.PingService/Ping", scraped.server.api), json!({})));
    wrong_content(scraped).await;
    cache(scraped).await;
    refused_events(scraped).await;
    restored_database(scraped).await;
    recreated_topic(scraped).await;
    killed_server(scraped).await;
    all_resolve(scraped).await;
}

/// Every tenth of a second, whatever the answer is: its code is what counts.
async fn call_repeatedly(url: String, body: Value) {
    let http = reqwest::Client::new();
    loop {
        let _ = http.post(&url).json(&body).send().await;
        sleep(Duration::from_millis(100)).await;
    }
}

async fn fires(scraped: &Scraped, alert: &str) {
    let started = Instant::now();
    scraped.eventually(&format!("ALERTS{{alertstate=\"firing\",alertname=\"{alert}\"}}")).await;
    println!("{alert} fires after {:?}", started.elapsed());
}

/// The alerts fire in any order, some for seconds only.
async fn all_fire(scraped: &Scraped, alerts: &[&str]) {
    join_all(alerts.iter().map(|alert| fires(scraped, alert))).await;
}

async fn all_resolve(scraped: &Scraped) {
    let started = Instant::now();
    scraped.eventually(r#"absent(ALERTS{alertstate="firing",alertname=~"PingPipeline.*"})"#).await;
    println!("no alert fires after {:?}", started.elapsed());
}

async fn postgres(scraped: &Scraped) -> PgConnection {
    PgConnection::connect(&scraped.parts.postgres.url()).await.unwrap()
}

/// Sends a command to the cache.
async fn cache_command<T: FromRedisValue>(scraped: &Scraped, command: &str, arguments: &[&str]) -> T {
    let client = redis::Client::open(scraped.parts.redis.url()).unwrap();
    let mut cache = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd(command).arg(arguments).query_async(&mut cache).await.unwrap()
}

/// A record that no server wrote, counts that someone edited in the cache and in Postgres, and a certificate that is not renewed.
async fn wrong_content(scraped: &mut Scraped) {
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", scraped.parts.kafka.brokers()).create().unwrap();
    producer.send(FutureRecord::<(), _>::to("pings").payload(b"\xff"), Duration::from_secs(10)).await.unwrap();
    cache_command::<i64>(scraped, "HINCRBY", &["ping:counters", "total", "7"]).await;
    let deleted =
        sqlx::query("DELETE FROM source_segments WHERE family = 2").execute(&mut postgres(scraped).await).await;
    assert!(deleted.unwrap().rows_affected() > 0);
    scraped.certify(SHORT_LIFETIME);
    let alerts = [
        "PingPipelineDeadLetters",
        "PingPipelineDrifted",
        "PingPipelineViewsDrifted",
        "PingPipelineCertificateExpires",
    ];
    all_fire(scraped, &alerts).await;
    scraped.certify(LONG_LIFETIME);
}

/// Without memory the cache does not change. Without the cache, counts no longer advance, and nothing is audited.
async fn cache(scraped: &mut Scraped) {
    cache_command::<()>(scraped, "CONFIG", &["SET", "maxmemory", "1"]).await;
    fires(scraped, "PingPipelineCacheFull").await;
    cache_command::<()>(scraped, "CONFIG", &["SET", "maxmemory", "0"]).await;
    scraped.parts.redis.kill_9().await.unwrap();
    all_fire(scraped, &["PingPipelineLags", "PingPipelineAuditsStopped"]).await;
    scraped.parts.redis.restart_empty().await.unwrap();
    all_resolve(scraped).await;
}

/// A commit that fails as on a full disk, and one that takes so long that the queue of the server is full.
async fn refused_events(scraped: &Scraped) {
    let mut postgres = postgres(scraped).await;
    for statement in [
        "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$",
        "CREATE TRIGGER no_space BEFORE INSERT ON events EXECUTE FUNCTION no_space()",
    ] {
        sqlx::query(statement).execute(&mut postgres).await.unwrap();
    }
    fires(scraped, "PingPipelineStorageFull").await;
    sqlx::query("DROP FUNCTION no_space CASCADE").execute(&mut postgres).await.unwrap();

    let mut transaction = postgres.begin().await.unwrap();
    sqlx::query("LOCK TABLE events IN SHARE MODE").execute(&mut *transaction).await.unwrap();
    let mut batches = JoinSet::new();
    for _ in 0..BATCHES {
        let url = format!("{}/ping.v1.EventService/RecordBatch", scraped.server.api);
        batches.spawn(call_repeatedly(url, json!({"events": vec![json!({}); BATCH_EVENTS]})));
    }
    fires(scraped, "PingPipelineRejectsEvents").await;
    batches.shutdown().await;
    transaction.rollback().await.unwrap();
}

/// Waits until the cache has counted `events` more.
async fn count_more(server: &Pingd, events: i64) {
    let started = Instant::now();
    let mut first = None;
    loop {
        let answer = server.call("PingCount", &json!({})).await.map(|(_, answer)| answer).unwrap_or_default();
        let count = answer["pingCount"].as_str().filter(|_| answer["store"] == "STORE_CACHE");
        let count = count.map(|count| count.parse::<i64>().unwrap());
        first = first.or(count);
        if count.zip(first).is_some_and(|(count, first)| count >= first + events) {
            return;
        }
        assert!(started.elapsed() < TIMEOUT, "counted {first:?} to {answer}\n{}", server.log_tail());
        sleep(Duration::from_millis(100)).await;
    }
}

/// Without Postgres, events are refused, and the views stand still. Then it is back without the last events.
async fn restored_database(scraped: &mut Scraped) {
    scraped.parts.postgres.back_up().await.unwrap();
    count_more(&scraped.server, 50).await;
    scraped.parts.postgres.restore_backup().await.unwrap();
    all_fire(scraped, &["PingPipelineErrorRate", "PingPipelineViewsLag"]).await;
    scraped.parts.postgres.restart().await.unwrap();
    fires(scraped, "PingPipelineDatabaseRestored").await;
}

async fn recreated_topic(scraped: &Scraped) {
    // A topic that was created again is noticed if something of the old one has been read.
    count_more(&scraped.server, 50).await;
    recreate_topic(&scraped.parts).await;
    fires(scraped, "PingPipelineTopicRecreated").await;
}

async fn killed_server(scraped: &mut Scraped) {
    scraped.server.kill_9().await;
    all_fire(scraped, &["PingPipelineServerDown", "PingPipelineInstanceDown"]).await;
    scraped.server.restart();
}
