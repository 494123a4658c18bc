//! Environment variables of servers and processors. Their names are defined in `ping_runtime::env`.

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, SecretKeySelector};
use ping_api::crd::{
    SecretKey,
    kafka::SaslMechanism,
    sources::{SourcesSpec, StatusRule, Threshold},
    workload::PodSpec,
};
use ping_runtime::env;

use super::kafka::consumer_group;
use crate::pipeline::{Cache, Connection, Credentials, Pipeline};

/// Folder with the CA of the Kafka brokers.
pub(super) const KAFKA_CA_FOLDER: &str = "/etc/ping/kafka-ca";
/// Folder with the client certificate for Kafka.
pub(super) const KAFKA_CERTIFICATE_FOLDER: &str = "/etc/ping/kafka-certificate";

/// Variables that servers and processors share; `credentials` are those of the role.
pub(super) fn shared(
    pipeline: &Pipeline,
    connection: &Connection,
    credentials: &Credentials,
    pod: &PodSpec,
) -> Vec<EnvVar> {
    let mut variables = vec![
        value(env::ADMIN_LISTEN, "0.0.0.0:8081"),
        secret(env::POSTGRES_URL, &pipeline.postgres_uri()),
        value(env::KAFKA_BROKERS, &connection.brokers),
        value(env::KAFKA_TOPIC, &pipeline.kafka.topic.name),
        value(env::KAFKA_DEAD_LETTER_TOPIC, &pipeline.kafka.dead_letter.name),
        value(env::KAFKA_GROUP, &consumer_group(pipeline)),
    ];
    variables.extend(kafka_credentials(connection, credentials));
    variables.push(value(env::CACHE_URL, &pipeline.cache_url()));
    variables.extend(pipeline.cache.password().map(|password| secret(env::CACHE_PASSWORD, password)));
    variables.extend([value(env::WINDOW_MINUTES, &pipeline.processor.window_minutes.to_string())]);
    variables.extend(sources(&pipeline.sources));
    let overridden = pod.env.iter().any(|variable| variable.name == env::STATUS_SOURCES);
    let cached = max_cached_statuses(&pipeline.cache).filter(|_| !overridden);
    variables.extend(cached.map(|sources| value(env::STATUS_SOURCES, &sources.to_string())));
    variables.extend([
        value(env::DRAIN_SECONDS, &pod.drain_seconds.to_string()),
        value(env::LOG, &pod.log),
        value(env::LOG_FORMAT, "json"),
    ]);
    variables
}

/// Status rule and retention. Servers and processors need the same rule, because processors write the statuses that servers read.
fn sources(spec: &SourcesSpec) -> [EnvVar; 5] {
    let StatusRule { negative_when, positive_when, labels } = &spec.status;
    let threshold = |Threshold { kind, at_least }: &Threshold| format!("{kind}={at_least}");
    [
        value(env::STATUS_NEGATIVE_WHEN, &threshold(negative_when)),
        value(env::STATUS_POSITIVE_WHEN, &threshold(positive_when)),
        value(env::STATUS_LABELS, &[&*labels.negative, &*labels.positive, &*labels.unknown].join(",")),
        value(env::WINDOW_RETENTION_DAYS, &spec.window_retention_days.to_string()),
        value(env::DAY_RETENTION_DAYS, &spec.day_retention_days.to_string()),
    ]
}

/// Number of statuses that fit into half of a managed cache's memory, at 128 bytes each. With 24-byte source names they take 63 to
/// 66 bytes (see the benchmarks). `None` for an external cache, whose size is unknown.
fn max_cached_statuses(cache: &Cache) -> Option<u64> {
    const BYTES: f64 = 128.0;
    let Cache::Dragonfly(dragonfly) = cache else { return None };
    let capacity = dragonfly.resources.memory_limit()? / 2.0 / BYTES;
    Some((capacity as u64).clamp(1_000, 10_000_000))
}

fn kafka_credentials(connection: &Connection, credentials: &Credentials) -> Vec<EnvVar> {
    let protocol = match (connection.tls, credentials) {
        (true, Credentials::Password { .. }) => "sasl_ssl",
        (true, _) => "ssl",
        (false, Credentials::Password { .. }) => "sasl_plaintext",
        (false, _) => "plaintext",
    };
    let mut variables = vec![value(env::KAFKA_SECURITY_PROTOCOL, protocol)];
    if connection.ca.is_some() {
        variables.push(value(env::KAFKA_CA_FILE, &format!("{KAFKA_CA_FOLDER}/ca.crt")));
    }
    match credentials {
        Credentials::None => {}
        Credentials::Password { mechanism, username, password } => variables.extend([
            value(env::KAFKA_SASL_MECHANISM, mechanism_name(*mechanism)),
            value(env::KAFKA_SASL_USERNAME, username),
            secret(env::KAFKA_SASL_PASSWORD, password),
        ]),
        Credentials::Certificate(_) => variables.extend([
            value(env::KAFKA_CERT_FILE, &format!("{KAFKA_CERTIFICATE_FOLDER}/user.crt")),
            value(env::KAFKA_KEY_FILE, &format!("{KAFKA_CERTIFICATE_FOLDER}/user.key")),
        ]),
    }
    variables
}

fn mechanism_name(mechanism: SaslMechanism) -> &'static str {
    match mechanism {
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
    }
}

/// A variable with a plain value.
pub(super) fn value(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: Some(value.into()), value_from: None }
}

/// A variable whose value comes from a Secret.
fn secret(name: &str, key: &SecretKey) -> EnvVar {
    let selector = SecretKeySelector { name: key.name.clone(), key: key.key.clone(), optional: None };
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() }),
    }
}
