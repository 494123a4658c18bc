//! The topic, behind the programs' backs.

use std::time::{Duration, Instant};

use ping_testbed::Parts;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use tokio::time::sleep;

use crate::processes::TIMEOUT;

const TOPIC: &str = "pings";
const PARTITIONS: i32 = 6;

/// Deletes the topic and creates it again, empty.
pub async fn recreate_topic(parts: &Parts) {
    let mut config = ClientConfig::new();
    let admin: AdminClient<DefaultClientContext> =
        config.set("bootstrap.servers", parts.kafka.brokers()).create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    for deleted in admin.delete_topics(&[TOPIC], &options).await.unwrap() {
        deleted.unwrap();
    }
    let started = Instant::now();
    let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(1));
    while let Err(error) = admin.create_topics([&topic], &options).await.unwrap().remove(0) {
        assert!(started.elapsed() < TIMEOUT, "{error:?}");
        sleep(Duration::from_millis(50)).await;
    }
}
