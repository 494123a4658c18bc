//! The Kafka cluster, its topics and how to connect.

use ping_api::{
    crd::{
        SecretKey,
        kafka::{ExternalKafka, KafkaCluster, KafkaClusterRef, KafkaSpec, SaslMechanism},
    },
    kinds::{Key, Kind},
    names::Names,
    reason::Reason,
};

use super::{
    invalid::{Invalid, conflicting},
    references,
    shared_topics::{self, topics_of_others},
};
use crate::{
    cluster_state::ClusterState,
    external::strimzi::{ObservedNodePool, ObservedTopic, StrimziStatus},
    pipeline::{Authentication, CleanupPolicy, Connection, Credentials, Kafka, KafkaMode, SharedKafka, Topic},
};

const HOUR_MS: i64 = 3_600_000;

pub(super) fn kafka(spec: &KafkaSpec, names: &Names, state: &ClusterState) -> Result<Kafka, Invalid> {
    let given = [spec.cluster.is_some(), spec.cluster_ref.is_some(), spec.external.is_some()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        return Err(conflicting("set only one of spec.kafka.cluster, spec.kafka.clusterRef and spec.kafka.external"));
    }
    let reference = spec.cluster_ref.as_ref();
    if let Some(reference) = reference {
        references::granted_kafka(reference, names, state)?;
    }
    let (topic, dead_letter, minutes) = topics(spec, names)?;
    if topic.min_in_sync_replicas > topic.replicas {
        return Err(Invalid::Conflicting(format!(
            "spec.kafka.topic.minInSyncReplicas is {}, but there are {} replicas, so Kafka would accept no writes. Lower it",
            topic.min_in_sync_replicas, topic.replicas
        )));
    }
    let namespace = reference.and_then(|reference| reference.namespace.clone()).unwrap_or(names.namespace.clone());
    check_partitions(&topic, &namespace, state)?;
    if let Some(reference) = reference {
        check_users(&namespace, names, state)?;
        if state.kafka.is_some() {
            let all =
                [("topic", Some(&topic)), ("deadLetterTopic", Some(&dead_letter)), ("minutesTopic", minutes.as_ref())];
            for (field, topic) in all {
                shared_topics::check(field, topic, (reference, &namespace), names, state)?;
            }
        }
    }
    let (mode, connection) = match (reference, &spec.external) {
        (Some(reference), _) => shared_kafka(reference, namespace, names, state),
        (None, Some(external)) => {
            check_addresses(external)?;
            (KafkaMode::External(external.clone()), Some(external_connection(external)))
        }
        (None, None) => {
            let cluster = spec.cluster.clone().unwrap_or_default();
            check_controllers(&cluster, names, state)?;
            if topic.replicas > cluster.brokers.replicas {
                return Err(Invalid::Conflicting(format!(
                    "spec.kafka.topic.replicas is {}, but there are {} brokers, and a topic cannot have more replicas than \
                     brokers. Lower it or raise spec.kafka.cluster.brokers.replicas",
                    topic.replicas, cluster.brokers.replicas
                )));
            }
            (KafkaMode::Managed(cluster), Some(managed_connection(names)))
        }
    };
    Ok(Kafka { mode, topic, dead_letter, minutes, connection })
}

/// The topics for events, dead letters and per-minute summaries.
fn topics(spec: &KafkaSpec, names: &Names) -> Result<(Topic, Topic, Option<Topic>), Invalid> {
    let prefix = names.kafka_prefix(spec.cluster_ref.as_ref());
    let default_name = |name: &str| match spec.cluster_ref {
        Some(_) => names.topic_prefix() + name,
        None => name.into(),
    };
    let others = topics_of_others(spec, names);
    let own = |field: &str| !others.iter().any(|(other, _)| *other == field);
    let topic = Topic {
        name: spec.topic.name.clone().unwrap_or_else(|| default_name("pings")),
        object: format!("{prefix}-pings"),
        own: own("topic"),
        partitions: spec.topic.partitions,
        replicas: spec.topic.replicas,
        min_in_sync_replicas: spec.topic.min_in_sync_replicas,
        cleanup_policy: CleanupPolicy::Delete(spec.topic.retention_hours * HOUR_MS),
    };
    let dead_letter = Topic {
        name: spec.dead_letter_topic.name.clone().unwrap_or_else(|| match spec.cluster_ref {
            Some(_) => default_name("pings-dead-letter"),
            None => format!("{}-dead-letter", topic.name),
        }),
        object: format!("{prefix}-pings-dead-letter"),
        own: own("deadLetterTopic"),
        partitions: 1,
        cleanup_policy: CleanupPolicy::Delete(spec.dead_letter_topic.retention_hours * HOUR_MS),
        ..topic.clone()
    };
    let minutes = Topic {
        name: spec.minutes_topic.name.clone().unwrap_or_else(|| default_name("ping-minutes")),
        object: format!("{prefix}-ping-minutes"),
        own: own("minutesTopic"),
        partitions: 1,
        cleanup_policy: CleanupPolicy::Compact,
        ..topic.clone()
    };
    let minutes = spec.minutes_topic.enabled.unwrap_or(spec.external.is_none()).then_some(minutes);
    distinct_names([
        ("topic", Some(&topic)),
        ("deadLetterTopic", Some(&dead_letter)),
        ("minutesTopic", minutes.as_ref()),
    ])?;
    Ok((topic, dead_letter, minutes))
}

/// Topics need different names, because their records differ.
fn distinct_names(topics: [(&str, Option<&Topic>); 3]) -> Result<(), Invalid> {
    for (at, (field, topic)) in topics.iter().enumerate() {
        let Some(topic) = topic else { continue };
        let same = |(_, other): &&(&str, Option<&Topic>)| other.is_some_and(|other| other.name == topic.name);
        if let Some((other, _)) = topics[..at].iter().find(same) {
            return Err(Invalid::Conflicting(format!(
                "spec.kafka.{field} and spec.kafka.{other} are both called {}, but they hold different records. Set \
                 spec.kafka.{field}.name to a different name",
                topic.name
            )));
        }
    }
    Ok(())
}

/// A Secret that has the name of one of our users, but was not made for it, is someone else's.
fn check_users(namespace: &str, names: &Names, state: &ClusterState) -> Result<(), Invalid> {
    for role in ["server", "processor"] {
        let key = Key::new(Kind::Secret, namespace, format!("{}-{role}", names.unique()));
        if state.unowned_secrets.contains(&key) {
            return Err(Invalid::Refused(
                Reason::NameConflict,
                format!(
                    "{key} exists and does not belong to the KafkaUser of the same name, so it is not copied. Delete it: kubectl -n \
                     {namespace} delete secret {}",
                    key.name
                ),
            ));
        }
    }
    Ok(())
}

fn check_partitions(topic: &Topic, namespace: &str, state: &ClusterState) -> Result<(), Invalid> {
    let live =
        state.live.observe::<ObservedTopic, StrimziStatus>(&Key::new(Kind::KafkaTopic, namespace, &topic.object));
    match live.and_then(|live| live.spec.partitions) {
        Some(now) if now > i64::from(topic.partitions) => Err(Invalid::Irreversible(format!(
            "spec.kafka.topic.partitions is {}, but the topic has {now}, and Kafka cannot remove partitions. Set {now}, or \
             delete this pipeline (its data is retained) and the KafkaTopic {namespace}/{}, and create the pipeline again",
            topic.partitions, topic.object
        ))),
        _ => Ok(()),
    }
}

/// Rejects adding or removing controllers of a Kafka that exists. The rule in the CRD does not apply while `spec.kafka.cluster` is or was
/// absent, nor to a Kafka that an earlier pipeline retained.
fn check_controllers(cluster: &KafkaCluster, names: &Names, state: &ClusterState) -> Result<(), Invalid> {
    let pool = |part: &str| {
        let key = names.key(Kind::KafkaNodePool, names.part(part));
        state.live.observe::<ObservedNodePool, StrimziStatus>(&key)
    };
    let separate = match (pool("broker"), pool("controller")) {
        (Some(brokers), _) => !brokers.spec.roles.iter().any(|role| role == "controller"),
        (None, Some(_)) => true,
        (None, None) => return Ok(()),
    };
    let kafka = names.key(Kind::Kafka, names.kafka());
    let other_name = "create a PingPipeline with another name";
    match (cluster.controllers.is_some(), separate) {
        (true, false) => Err(Invalid::Irreversible(format!(
            "spec.kafka.cluster.controllers is set, but the brokers of {kafka} hold its metadata, which cannot move to other nodes. Remove \
             controllers, or {other_name}"
        ))),
        (false, true) => Err(Invalid::Irreversible(format!(
            "spec.kafka.cluster.controllers is absent, but the controllers of {kafka} hold its metadata, which cannot move to the brokers. \
             Set controllers as before, or {other_name}"
        ))),
        (true, true) | (false, false) => Ok(()),
    }
}

/// The same as the rule in the CRD, for API servers that do not evaluate it. NetworkPolicies allow the ports of these addresses only.
fn check_addresses(external: &ExternalKafka) -> Result<(), Invalid> {
    let is_address = |server: &String| {
        server.rsplit_once(':').is_some_and(|(host, port)| {
            let is_host = !host.is_empty() && (host.starts_with('[') || !host.contains([':', '/', ',']));
            is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    match external.bootstrap_servers.iter().find(|server| !is_address(server)) {
        Some(server) => Err(Invalid::Conflicting(format!(
            "spec.kafka.external.bootstrapServers contains \"{server}\", which is not host:port. Set both, for example broker:9092"
        ))),
        None => Ok(()),
    }
}

/// The connection to the listener `tls`, which `build` configures for a managed cluster.
fn managed_connection(names: &Names) -> Connection {
    Connection {
        brokers: format!("{}-kafka-bootstrap.{}.svc:9093", names.kafka(), names.namespace),
        tls: true,
        ca: Some(SecretKey { name: format!("{}-cluster-ca-cert", names.kafka()), key: "ca.crt".into() }),
        server: scram(names, "server", &names.kafka_credentials("server")),
        processor: scram(names, "processor", &names.kafka_credentials("processor")),
    }
}

fn scram(names: &Names, role: &str, username: &str) -> Credentials {
    Credentials::Password {
        mechanism: SaslMechanism::ScramSha512,
        username: username.into(),
        password: SecretKey { name: names.kafka_credentials(role), key: "password".into() },
    }
}

fn external_connection(external: &ExternalKafka) -> Connection {
    let credentials = external.sasl.as_ref().map_or(Credentials::None, |sasl| Credentials::Password {
        mechanism: sasl.mechanism,
        username: sasl.username.clone(),
        password: sasl.password.clone(),
    });
    Connection {
        brokers: external.bootstrap_servers.join(","),
        tls: external.tls.is_some(),
        ca: external.tls.as_ref().and_then(|tls| tls.ca.clone()),
        server: credentials.clone(),
        processor: credentials,
    }
}

fn shared_kafka(
    reference: &KafkaClusterRef,
    namespace: String,
    names: &Names,
    state: &ClusterState,
) -> (KafkaMode, Option<Connection>) {
    let listener = state
        .kafka
        .as_ref()
        .and_then(|kafka| kafka.spec.kafka.listeners.iter().find(|listener| listener.name == reference.listener));
    let authentication =
        listener.map(|listener| match listener.authentication.as_ref().map(|kind| kind.kind.as_str()) {
            Some("scram-sha-512") => Authentication::Scram,
            Some("tls") => Authentication::Certificate,
            _ => Authentication::None,
        });
    let address = state.kafka.as_ref().and_then(|kafka| kafka.status.as_ref()).and_then(|status| {
        status.listeners.iter().find(|listener| listener.name == reference.listener)?.bootstrap_servers.clone()
    });
    let same_namespace = namespace == names.namespace;
    let prefix = names.kafka_prefix(Some(reference));
    let connection = listener.zip(authentication).zip(address).map(|((listener, authentication), brokers)| {
        let credentials = |role: &str| {
            let user = format!("{prefix}-{role}");
            let secret = if same_namespace { user.clone() } else { names.kafka_credentials(role) };
            match authentication {
                Authentication::None => Credentials::None,
                Authentication::Certificate => Credentials::Certificate(secret),
                Authentication::Scram => Credentials::Password {
                    mechanism: SaslMechanism::ScramSha512,
                    username: user,
                    password: SecretKey { name: secret, key: "password".into() },
                },
            }
        };
        let ca = if same_namespace { format!("{}-cluster-ca-cert", reference.name) } else { names.kafka_ca_copy() };
        Connection {
            brokers,
            tls: listener.tls,
            ca: listener.tls.then(|| SecretKey { name: ca, key: "ca.crt".into() }),
            server: credentials("server"),
            processor: credentials("processor"),
        }
    });
    let authorization = state.kafka.as_ref().is_some_and(|kafka| kafka.spec.kafka.authorization.is_some());
    let shared = SharedKafka { name: reference.name.clone(), namespace, authentication, authorization };
    (KafkaMode::Shared(shared), connection)
}
