//! Server and processor with Postgres, Kafka and Redis, which are killed and restarted.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ping_memory::SystemClock;
use ping_ports::Clock;
use ping_testbed::Parts;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::processes::{EXAMPLE, Pingd, TIMEOUT, pipeline};

/// The result of `HGETALL ping:counters`.
async fn counters(parts: &Parts) -> std::collections::BTreeMap<String, i64> {
    let client = redis::Client::open(parts.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("HGETALL").arg("ping:counters").query_async(&mut connection).await.unwrap()
}

#[tokio::test]
async fn three_pings_are_three_fields_and_a_total_within_a_second() {
    let (parts, server, _processor) = pipeline().await;
    for _ in 0..3 {
        server.ping(json!({"timestamp_ms": EXAMPLE})).await;
    }
    server.wait_for_count(3).await;
    let counters = counters(&parts).await;
    assert_eq!(counters, [("minute:28815438".to_owned(), 3), ("total".to_owned(), 3)].into());
    let (_, proof) = server.verify().await;
    assert_eq!(proof["exact"], true, "{proof}");
    server.wait_for_audit(SystemClock.now()).await;
    server.counts_within_a_second(3).await;
}

#[tokio::test]
async fn the_store_answers_when_the_cache_is_away_and_the_cache_again_when_it_is_back() {
    let (mut parts, server, _processor) = pipeline().await;
    server.ping(json!({})).await;
    server.wait_for_count(1).await;
    parts.redis.kill_9().await.unwrap();
    assert_eq!(server.count(json!({})).await, (1, "STORE_DATABASE".into()));
    server.ping(json!({})).await;
    assert_eq!(server.count(json!({})).await, (2, "STORE_DATABASE".into()));
    let (_, proof) = server.verify().await;
    assert_eq!(
        (&proof["exact"], &proof["differences"]),
        (&json!(false), &json!(["the cache is unavailable"])),
        "{proof}"
    );
    parts.redis.restart_empty().await.unwrap();
    server.wait_for_count(2).await;
}

#[tokio::test]
async fn what_is_not_counted_yet_is_late_not_lost() {
    let (_parts, server, mut processor) = pipeline().await;
    server.ping(json!({})).await;
    server.wait_for_count(1).await;
    processor.kill_9().await;
    server.ping(json!({})).await;
    let (_, proof) = server.verify().await;
    let differences: Vec<_> = proof["differences"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(matches!(differences[..], [late] if late.ends_with("what it lacks is late, not lost")), "{proof}");
    assert_eq!((&proof["total"], &proof["cacheTotal"], &proof["exact"]), (&json!("2"), &json!("1"), &json!(false)));
}

#[tokio::test]
async fn a_broken_connection_to_the_cache_is_no_difference() {
    let (parts, server, _processor) = pipeline().await;
    server.ping(json!({})).await;
    server.wait_for_count(1).await;
    let client = redis::Client::open(parts.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let killed: i64 = redis::cmd("CLIENT")
        .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(killed >= 2, "{killed}");
    let (_, proof) = server.verify().await;
    assert_eq!(proof["exact"], true, "{proof}");
}

#[tokio::test]
async fn pings_are_taken_while_kafka_is_away_and_counted_when_it_is_back() {
    let (mut parts, server, processor) = pipeline().await;
    server.ping(json!({})).await;
    server.wait_for_count(1).await;
    parts.kafka.kill_9().await.unwrap();
    for _ in 0..20 {
        server.ping(json!({})).await;
    }
    assert_eq!(server.count(json!({"strong": true})).await.0, 21);
    parts.kafka.restart().await.unwrap();
    server.wait_for_count(21).await;
    assert_eq!(processor.metric("ping_count_drifts_total").await, 0.0);
}

#[tokio::test]
async fn callers_are_told_when_postgres_is_away() {
    let (mut parts, server, _processor) = pipeline().await;
    server.ping(json!({})).await;
    parts.postgres.kill_9().await.unwrap();
    let (status, answer) = server.call("Ping", &json!({})).await.unwrap();
    assert_eq!((status, &answer["code"]), (503, &json!("unavailable")), "{answer}");
    parts.postgres.restart().await.unwrap();
    server.wait_ready().await;
    server.ping(json!({})).await;
    server.wait_for_count(2).await;
}

#[tokio::test]
async fn two_processors_share_the_partitions_and_one_takes_over_when_the_other_stops() {
    let (parts, server, mut first) = pipeline().await;
    let second = Pingd::processor(&parts, &[]).await;
    for place in 0..200 {
        server.ping(json!({"source": format!("source-{place}")})).await;
    }
    server.wait_for_count(200).await;
    let code = first.terminate().await;
    assert_eq!(code, Some(0), "{}", first.log_tail());
    for place in 0..200 {
        server.ping(json!({"source": format!("source-{place}")})).await;
    }
    server.wait_for_count(400).await;
    assert_eq!(second.metric("ping_count_drifts_total").await, 0.0);
}

#[tokio::test]
async fn a_terminated_server_leaves_nothing_unpublished() {
    let (parts, mut server, _processor) = pipeline().await;
    for _ in 0..50 {
        server.ping(json!({})).await;
    }
    let code = server.terminate().await;
    assert_eq!(code, Some(0), "{}", server.log_tail());
    let pool = sqlx::PgPool::connect(&parts.postgres.url()).await.unwrap();
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(&pool).await.unwrap();
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM writers WHERE open").fetch_one(&pool).await.unwrap();
    assert_eq!((left, open), (0, 0));
}

#[tokio::test]
async fn foreign_and_broken_records_go_to_the_dead_letter_topic() {
    use rdkafka::{
        ClientConfig,
        producer::{FutureProducer, FutureRecord},
    };
    let (parts, server, processor) = pipeline().await;
    server.ping(json!({})).await;
    // A processor that is not counting yet would start after these records.
    server.wait_for_count(1).await;
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", parts.kafka.brokers()).create().unwrap();
    for value in [&b"\xff\xff"[..], b"", b"{\"json\":1}"] {
        let record = FutureRecord::<(), _>::to("pings").payload(value).partition(0);
        producer.send(record, Duration::from_secs(10)).await.unwrap();
    }
    for _ in 0..12 {
        server.ping(json!({})).await;
    }
    server.wait_for_count(13).await;
    let started = Instant::now();
    let letters = loop {
        let letters = dead_letters(&server).await;
        if letters.len() >= 3 {
            break letters;
        }
        assert!(started.elapsed() < TIMEOUT, "{letters:?}\n{}", processor.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(processor.metric("ping_count_dead_letters_total").await >= 3.0);
    let values: BTreeSet<_> = letters.iter().map(|letter| letter["value"].as_str().unwrap_or_default()).collect();
    assert_eq!(values, ["", "//8=", "eyJqc29uIjoxfQ=="].into());
    for letter in &letters {
        assert!(letter["event"].is_null() && letter["place"].as_str().unwrap().starts_with("pings/0/"), "{letter}");
        assert!(letter["sentMs"].is_string() && !letter["reason"].as_str().unwrap().is_empty(), "{letter}");
    }
    let queries = Pingd::server_with(&parts, &["--role", "query"]).await;
    let (status, refused) = queries.administer("DeadLetters", &json!({})).await;
    assert_eq!((status, &refused["code"]), (400, &json!("failed_precondition")), "{refused}");
}

/// All dead letters, in pages of two.
async fn dead_letters(server: &Pingd) -> Vec<Value> {
    let (mut letters, mut token) = (Vec::new(), json!(""));
    loop {
        let (status, page) = server.administer("DeadLetters", &json!({"pageSize": 2, "pageToken": token})).await;
        assert_eq!(status, 200, "{page}");
        let found = page["letters"].as_array().unwrap();
        assert!(found.len() <= 2, "{page}");
        letters.extend(found.iter().cloned());
        token = page["nextPageToken"].clone();
        if token == "" {
            return letters;
        }
    }
}

#[tokio::test]
async fn an_existing_table_is_in_the_total_from_the_start() {
    let parts = Parts::start().await.unwrap();
    let pool = sqlx::PgPool::connect(&parts.postgres.url()).await.unwrap();
    for statement in [
        "CREATE TABLE pings (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), pinged_at timestamptz NOT NULL)",
        "INSERT INTO pings (pinged_at) SELECT to_timestamp(1728926331 + n) FROM generate_series(1, 5000) n",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let said = Pingd::migrate(&parts).await;
    assert!(said.contains("5000 rows"), "{said}");
    let (server, _processor) = tokio::join!(Pingd::server(&parts), Pingd::processor(&parts, &[]));
    server.wait_for_count(5_000).await;
    server.ping(json!({})).await;
    server.wait_for_count(5_001).await;
    let said = Pingd::migrate(&parts).await;
    assert!(said.contains("imported 0 rows"), "a second import imports nothing twice: {said}");
}

#[tokio::test]
async fn any_number_of_replicas_may_race_for_the_schema() {
    let parts = Parts::start().await.unwrap();
    let migrate = || {
        Command::new(env!("CARGO_BIN_EXE_pingd"))
            .arg("migrate")
            .args(["--create-topics", "--replication", "1"])
            .envs(parts.env())
            .output()
    };
    for output in futures::future::join_all((0..6).map(|_| migrate())).await {
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
