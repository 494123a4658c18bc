//! The environment of servers and processors. The names stand in `ping_runtime::env`.

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, SecretKeySelector};
use ping_api::crd::{
    SecretKey,
    kafka::SaslMechanism,
    sources::{SourcesSpec, StatusRule, Threshold},
    workload::PodSpec,
};
use ping_runtime::env;

use super::kafka::group;
use crate::pipeline::{Cache, Connection, Login, Pipeline};

/// Folder with the CA of the Kafka brokers.
pub(super) const KAFKA_CA_FOLDER: &str = "/etc/ping/kafka-ca";
/// Folder with the client certificate for Kafka.
pub(super) const KAFKA_CERTIFICATE_FOLDER: &str = "/etc/ping/kafka-certificate";

/// What servers and processors have in common; `login` is that of the role.
pub(super) fn common(pipeline: &Pipeline, connection: &Connection, login: &Login, pod: &PodSpec) -> Vec<EnvVar> {
    let mut variables = vec![
        value(env::ADMIN_LISTEN, "0.0.0.0:8081"),
        secret(env::POSTGRES_URL, &pipeline.postgres_uri()),
        value(env::KAFKA_BROKERS, &connection.brokers),
        value(env::KAFKA_TOPIC, &pipeline.kafka.topic.name),
        value(env::KAFKA_DEAD_LETTER_TOPIC, &pipeline.kafka.dead_letter.name),
        value(env::KAFKA_GROUP, &group(pipeline)),
    ];
    variables.extend(kafka_login(connection, login));
    variables.push(value(env::CACHE_URL, &pipeline.cache_url()));
    variables.extend(pipeline.cache.password().map(|password| secret(env::CACHE_PASSWORD, password)));
    variables.extend([value(env::WINDOW_MINUTES, &pipeline.processor.window_minutes.to_string())]);
    variables.extend(sources(&pipeline.sources));
    let said = pod.env.iter().any(|variable| variable.name == env::STATUS_SOURCES);
    let at_hand = statuses_at_hand(&pipeline.cache).filter(|_| !said);
    variables.extend(at_hand.map(|sources| value(env::STATUS_SOURCES, &sources.to_string())));
    variables.extend([
        value(env::DRAIN_SECONDS, &pod.drain_seconds.to_string()),
        value(env::LOG, &pod.log),
        value(env::LOG_FORMAT, "json"),
    ]);
    variables
}

/// Servers and processors go by the same rule: what one keeps at hand, the other reads.
fn sources(spec: &SourcesSpec) -> [EnvVar; 5] {
    let StatusRule { not_when, yes_when, names } = &spec.status;
    let threshold = |Threshold { kind, at_least }: &Threshold| format!("{kind}={at_least}");
    [
        value(env::STATUS_NOT_WHEN, &threshold(not_when)),
        value(env::STATUS_YES_WHEN, &threshold(yes_when)),
        value(env::STATUS_NAMES, &[&*names.not, &*names.is, &*names.unknown].join(",")),
        value(env::WINDOW_RETENTION_DAYS, &spec.window_retention_days.to_string()),
        value(env::DAY_RETENTION_DAYS, &spec.day_retention_days.to_string()),
    ]
}

/// How many statuses a cache of our own has room for in half of its memory, at 128 bytes each: they take 63 to 66 with names of
/// 24 bytes (bench/README.md). How large somebody else's cache is, nobody here knows.
fn statuses_at_hand(cache: &Cache) -> Option<u64> {
    const BYTES: f64 = 128.0;
    let Cache::Dragonfly(dragonfly) = cache else { return None };
    let room = dragonfly.resources.memory_limit()? / 2.0 / BYTES;
    Some((room as u64).clamp(1_000, 10_000_000))
}

fn kafka_login(connection: &Connection, login: &Login) -> Vec<EnvVar> {
    let protocol = match (connection.tls, login) {
        (true, Login::Password { .. }) => "sasl_ssl",
        (true, _) => "ssl",
        (false, Login::Password { .. }) => "sasl_plaintext",
        (false, _) => "plaintext",
    };
    let mut variables = vec![value(env::KAFKA_SECURITY_PROTOCOL, protocol)];
    if connection.ca.is_some() {
        variables.push(value(env::KAFKA_CA_FILE, &format!("{KAFKA_CA_FOLDER}/ca.crt")));
    }
    match login {
        Login::Nothing => {}
        Login::Password { mechanism, username, password } => variables.extend([
            value(env::KAFKA_SASL_MECHANISM, mechanism_name(*mechanism)),
            value(env::KAFKA_SASL_USERNAME, username),
            secret(env::KAFKA_SASL_PASSWORD, password),
        ]),
        Login::Certificate(_) => variables.extend([
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

/// A variable with a value that everybody may see.
pub(super) fn value(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: Some(value.into()), value_from: None }
}

/// A variable whose value is in a Secret.
fn secret(name: &str, key: &SecretKey) -> EnvVar {
    let selector = SecretKeySelector { name: key.name.clone(), key: key.key.clone(), optional: None };
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() }),
    }
}
