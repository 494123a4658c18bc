//! Each part starts, responds, keeps its data through a kill, and leaves no process behind.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "clippy.toml allows them in tests, not in their helpers")]

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use ping_testbed::{Compiler, Kafka, Parts, Postgres, Redis, pid::Pid};
use rdkafka::{
    ClientConfig, Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    producer::{FutureProducer, FutureRecord},
};

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: run testbed/install.sh parts"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn psql(url: &str, statement: &str) -> String {
    output("psql", &["--no-psqlrc", "-qtA", "-v", "ON_ERROR_STOP=1", url, "-c", statement])
}

fn redis_cli(redis: &Redis, words: &[&str]) -> String {
    output("redis-cli", &[&["-e", "-u", &redis.url()], words].concat())
}

fn tree(root: Option<Pid>) -> Vec<Pid> {
    let root = root.expect("a running process");
    [root.descendants(), vec![root]].concat()
}

fn assert_gone(processes: &[Pid]) {
    assert!(processes.iter().all(|process| !process.is_running()), "still running: {processes:?}");
}

#[tokio::test]
async fn postgres_keeps_what_it_committed_through_a_kill() {
    let mut postgres = Postgres::start().await.unwrap();
    let url = postgres.url();
    psql(&url, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)");

    // Busy backends do not notice that the postmaster has been killed.
    let statement = "SELECT count(*) FROM generate_series(1, 10000000000)";
    let mut busy = Command::new("psql").args([&url, "-c", statement]).stderr(Stdio::null()).spawn().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let killed = tree(postgres.pid());
    assert!(killed.len() > 5, "expected the postmaster, its helpers and a backend");
    postgres.kill_9().await.unwrap();
    assert_gone(&killed);
    assert!(!busy.wait().unwrap().success());

    postgres.restart().await.unwrap();
    assert_eq!(psql(&url, "SELECT id FROM kept"), "7");
    postgres.stop().await.unwrap();
    postgres.restart().await.unwrap();
    assert_eq!(psql(&url, "SELECT id FROM kept"), "7");
}

#[tokio::test]
async fn postgres_is_as_durable_as_by_default_and_takes_settings() {
    let postgres =
        Postgres::start_with(&[("log_min_duration_statement", "250"), ("max_connections", "20")]).await.unwrap();
    let show = |name: &str| psql(&postgres.url(), &format!("SHOW {name}"));
    assert_eq!(["fsync", "synchronous_commit", "full_page_writes"].map(show), ["on", "on", "on"]);
    assert_eq!(["log_min_duration_statement", "max_connections"].map(show), ["250ms", "20"]);
    let role = "SELECT rolname || ' ' || rolsuper FROM pg_roles WHERE rolname = current_user";
    assert_eq!(psql(&postgres.url(), role), "ping false");
    assert_eq!(psql(&postgres.superuser_url(), role), "postgres true");
}

#[tokio::test]
async fn a_setting_that_postgres_rejects_is_reported_with_its_log() {
    let error = Postgres::start_with(&[("no_such_setting", "1")]).await.unwrap_err().to_string();
    assert!(error.contains("Postgres exited during startup"), "{error}");
    assert!(error.contains("unrecognized configuration parameter \"no_such_setting\""), "{error}");
}

#[tokio::test]
async fn redis_keeps_its_data_through_a_kill_or_starts_empty() {
    let mut redis = Redis::start().await.unwrap();
    redis_cli(&redis, &["SET", "kept", "7"]);
    let killed = tree(redis.pid());
    redis.kill_9().await.unwrap();
    assert_gone(&killed);
    redis.restart_with_data().await.unwrap();
    assert_eq!(redis_cli(&redis, &["GET", "kept"]), "7");
    redis.restart_empty().await.unwrap();
    assert_eq!(redis_cli(&redis, &["DBSIZE"]), "0");
}

#[tokio::test]
async fn kafka_keeps_topics_and_records_through_a_kill() {
    let mut kafka = Kafka::start().await.unwrap();
    kafka.create_topic("pings", 6, &[("retention.ms", "-1")]).await.unwrap();
    let duplicate = kafka.create_topic("pings", 6, &[]).await.unwrap_err().to_string();
    assert!(duplicate.contains("already exists"), "{duplicate}");
    let unknown = kafka.create_topic("invalid", 1, &[("no.such.setting", "1")]).await.unwrap_err().to_string();
    assert!(unknown.contains("no.such.setting"), "{unknown}");

    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.brokers())
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .create()
        .unwrap();
    let record = FutureRecord::<(), str>::to("pings").partition(5).payload("kept");
    producer.send(record, Duration::from_secs(10)).await.unwrap();

    let killed = tree(kafka.pid());
    kafka.kill_9().await.unwrap();
    assert_gone(&killed);
    kafka.restart().await.unwrap();
    assert_eq!(first_record(&kafka.brokers(), 5), b"kept");
}

fn first_record(brokers: &str, partition: i32) -> Vec<u8> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "test").create().unwrap();
    let mut positions = TopicPartitionList::new();
    positions.add_partition_offset("pings", partition, rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&positions).unwrap();
    consumer.poll(Duration::from_secs(20)).expect("a record").unwrap().payload().unwrap().to_vec()
}

#[tokio::test]
async fn a_broker_for_measurements_is_compiled_fully() {
    let kafka = Kafka::start_with(Compiler::Full).await.unwrap();
    let command = std::fs::read_to_string(format!("/proc/{}/cmdline", kafka.pid().unwrap().number())).unwrap();
    assert!(command.contains("-Xmx512m") && !command.contains("TieredStopAtLevel"), "{command}");
}

#[tokio::test]
async fn nothing_is_left_when_the_parts_are_dropped() {
    let parts = Parts::start().await.unwrap();
    let processes = [parts.postgres.pid(), parts.kafka.pid(), parts.redis.pid()].map(tree).concat();
    assert!(processes.len() >= 3);
    drop(parts);
    assert_gone(&processes);
}
