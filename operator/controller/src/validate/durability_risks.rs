//! Settings that can lose an acknowledged event.

use ping_api::crd::postgres::{DataDurability, PostgresCluster};

use crate::pipeline::{Kafka, KafkaMode, Postgres};

/// The risks of the settings, each as a clause that can follow "but". Empty if the settings are safe.
pub(super) fn durability_risks(postgres: &Postgres, kafka: &Kafka) -> Vec<String> {
    let mut found = match postgres {
        Postgres::Cluster(cluster) => postgres_risks(cluster),
        Postgres::External(_) => Vec::new(),
    };
    found.extend(kafka_risks(kafka));
    found
}

fn postgres_risks(cluster: &PostgresCluster) -> Vec<String> {
    let mut found = Vec::new();
    if cluster.instances < 2 {
        found.push(
            "spec.postgres.cluster.instances is 1, so a single disk holds the only copy of every event (3 is safe and highly \
             available)"
                .into(),
        );
    } else if cluster.synchronous.number < 1 {
        found.push(
            "spec.postgres.cluster.synchronous.number is 0, so events are acknowledged before another instance has them \
             (1 is safe)"
                .into(),
        );
    } else if cluster.synchronous.data_durability == DataDurability::Preferred {
        found.push(
            "spec.postgres.cluster.synchronous.dataDurability is Preferred, so events are acknowledged with a single copy while \
             no standby is available (Required is safe)"
                .into(),
        );
    }
    let on = &["on", "true", "yes", "1"][..];
    let checked = [("fsync", on), ("full_page_writes", on), ("synchronous_commit", &["on", "remote_apply"][..])];
    for (parameter, value) in &cluster.parameters {
        // Postgres ignores the case of names and of these values.
        let safe = checked.iter().find(|(name, _)| name.eq_ignore_ascii_case(parameter)).map(|(_, safe)| *safe);
        if safe.is_some_and(|safe| !safe.contains(&value.to_ascii_lowercase().as_str())) {
            found.push(format!(
                "spec.postgres.cluster.parameters.{parameter} is \"{value}\", so an acknowledged event may not be on disk yet \
                 (remove the parameter)"
            ));
        }
    }
    found
}

fn kafka_risks(kafka: &Kafka) -> Vec<String> {
    let mut found = Vec::new();
    match &kafka.mode {
        KafkaMode::External(_) => return found,
        KafkaMode::Managed(cluster) if cluster.brokers.replicas < 3 => found.push(format!(
            "spec.kafka.cluster.brokers.replicas is {}, and a topic cannot have more replicas than brokers (3 is safe)",
            cluster.brokers.replicas
        )),
        KafkaMode::Managed(_) | KafkaMode::Shared(_) => {}
    }
    if kafka.topic.replicas < 3 {
        found.push(format!(
            "spec.kafka.topic.replicas is {}, so losing a broker can lose events (3 is safe)",
            kafka.topic.replicas
        ));
    }
    if kafka.topic.min_in_sync_replicas < 2 {
        found.push(format!(
            "spec.kafka.topic.minInSyncReplicas is {}, so Kafka accepts events that only one broker stores (2 is safe)",
            kafka.topic.min_in_sync_replicas
        ));
    }
    found
}
