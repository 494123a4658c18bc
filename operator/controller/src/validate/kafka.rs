//! The Kafka cluster, its topics and how to connect.

use ping_api::{
    crd::{
        SecretKey,
        kafka::{ExternalKafka, KafkaClusterRef, KafkaSpec, SaslMechanism},
    },
    grant::GrantKind,
    kinds::{Key, Kind},
    names::Names,
    reason::Reason,
};

use super::{
    invalid::{Invalid, conflicting},
    references,
};
use crate::{
    cluster_state::ClusterState,
    external::strimzi::{ObservedTopic, StrimziStatus},
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
                check_shared_topic(field, topic, (reference, &namespace), names, state)?;
            }
        }
    }
    let (mode, connection) = match (reference, &spec.external) {
        (Some(reference), _) => shared_kafka(reference, namespace, names, state),
        (None, Some(external)) => (KafkaMode::External(external.clone()), Some(external_connection(external))),
        (None, None) => {
            let cluster = spec.cluster.clone().unwrap_or_default();
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

/// Topics that `spec` names outside of the pipeline's prefix in a shared Kafka, each with its field. The operator uses them, if they exist
/// and are granted, but neither creates nor changes nor deletes them.
#[must_use]
pub fn topics_of_others(spec: &KafkaSpec, names: &Names) -> Vec<(&'static str, String)> {
    let named = [
        ("topic", &spec.topic.name),
        ("deadLetterTopic", &spec.dead_letter_topic.name),
        ("minutesTopic", &spec.minutes_topic.name),
    ];
    let prefix = names.topic_prefix();
    let named = named.into_iter().filter(|_| spec.cluster_ref.is_some());
    let named = named.filter_map(|(field, name)| Some((field, name.clone()?)));
    named.filter(|(_, name)| !name.starts_with(&prefix)).collect()
}

/// Checks that a topic of someone else may be used, exists, and is what the spec says that it is.
fn check_shared_topic(
    field: &str,
    topic: Option<&Topic>,
    (reference, namespace): (&KafkaClusterRef, &str),
    names: &Names,
    state: &ClusterState,
) -> Result<(), Invalid> {
    let Some(topic) = topic.filter(|topic| !topic.own) else { return Ok(()) };
    let field = format!("spec.kafka.{field}");
    if namespace != names.namespace {
        references::granted(&format!("{field}.name"), namespace, (GrantKind::KafkaTopic, &topic.name), names, state)?;
    }
    let Some(live) = state.shared_topics.get(&topic.name) else {
        return Err(Invalid::Refused(
            Reason::ReferenceMissing,
            format!(
                "{field}.name is {}, but Kafka {namespace}/{} has no KafkaTopic of that name, and the operator creates only topics whose \
                 names start with {}. Remove the name, or have the owner of {namespace} create the KafkaTopic",
                topic.name,
                reference.name,
                names.topic_prefix()
            ),
        ));
    };
    let in_sync = live.config.get("min.insync.replicas").and_then(number).unwrap_or(1);
    for (setting, wanted, found) in [
        ("partitions", topic.partitions, live.partitions.unwrap_or(1)),
        ("replicas", topic.replicas, live.replicas.unwrap_or(1)),
        ("minInSyncReplicas", topic.min_in_sync_replicas, in_sync),
    ] {
        if i64::from(wanted) != found {
            return Err(Invalid::Conflicting(format!(
                "the topic {} has {setting} {found}, but the spec says {wanted}, and the operator does not change topics of others. Set \
                 spec.kafka.topic.{setting} to {found}, or remove {field}.name",
                topic.name
            )));
        }
    }
    Ok(())
}

fn number(value: &serde_json::Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
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
