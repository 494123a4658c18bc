//! Every way in which settings alone can lose an acknowledged ping.

use ping_api::crd::postgres::{DataDurability, PostgresCluster};

use crate::pipeline::{Kafka, KafkaSource, Postgres};

/// What is unsafe, one clause each, as it follows "but". Empty: nothing is.
pub(super) fn hazards(postgres: &Postgres, kafka: &Kafka) -> Vec<String> {
    let mut found = match postgres {
        Postgres::Cluster(cluster) => cluster_hazards(cluster),
        Postgres::External(_) => Vec::new(),
    };
    found.extend(kafka_hazards(kafka));
    found
}

fn cluster_hazards(cluster: &PostgresCluster) -> Vec<String> {
    let mut found = Vec::new();
    if cluster.instances < 2 {
        found.push(
            "spec.postgres.cluster.instances is 1: a single disk holds the only copy of every ping (3 is safe and \
             stays available)"
                .into(),
        );
    } else if cluster.synchronous.number < 1 {
        found.push(
            "spec.postgres.cluster.synchronous.number is 0: pings are acknowledged before any other instance has \
             them (1 is safe)"
                .into(),
        );
    } else if cluster.synchronous.data_durability == DataDurability::Preferred {
        found.push(
            "spec.postgres.cluster.synchronous.dataDurability is Preferred: while no standby answers, pings are \
             acknowledged with one copy (Required is safe)"
                .into(),
        );
    }
    let forbidden = [("fsync", &["on", "true", "yes", "1"][..]), ("full_page_writes", &["on", "true", "yes", "1"][..])];
    for (parameter, safe) in forbidden.into_iter().chain([("synchronous_commit", &["on", "remote_apply"][..])]) {
        if let Some(value) = cluster.parameters.get(parameter)
            && !safe.contains(&value.to_ascii_lowercase().as_str())
        {
            found.push(format!(
                "spec.postgres.cluster.parameters.{parameter} is \"{value}\": an acknowledged ping may not be on disk yet \
                 (leave it out)"
            ));
        }
    }
    found
}

fn kafka_hazards(kafka: &Kafka) -> Vec<String> {
    let mut found = Vec::new();
    match &kafka.source {
        KafkaSource::External(_) => return found,
        KafkaSource::Own(cluster) if cluster.brokers.replicas < 3 => found.push(format!(
            "spec.kafka.cluster.brokers.replicas is {}: a topic has no more copies than brokers (3 is safe)",
            cluster.brokers.replicas
        )),
        KafkaSource::Own(_) | KafkaSource::Reference(_) => {}
    }
    if kafka.topic.replicas < 3 {
        found.push(format!(
            "spec.kafka.topic.replicas is {}: a lost broker can take events with it (3 is safe)",
            kafka.topic.replicas
        ));
    }
    if kafka.topic.min_in_sync_replicas < 2 {
        found.push(format!(
            "spec.kafka.topic.minInSyncReplicas is {}: Kafka accepts events that only one broker has (2 is safe)",
            kafka.topic.min_in_sync_replicas
        ));
    }
    found
}
