//! Environment variables of servers and processors. Their names are defined in `ping_runtime::env`.

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, SecretKeySelector};
use ping_api::{
    crd::{
        SecretKey,
        access::ClientCertificates,
        kafka::SaslMechanism,
        sources::{SourcesSpec, StatusRule, Threshold},
        tracing::{ALL_CALLS, TracingSpec},
        workload::PodSpec,
    },
    names::Names,
};
use ping_runtime::env;

use super::kafka::consumer_group;
use crate::{
    access_policy::{CLIENT_CA, FOLDER},
    pipeline::{Cache, CacheLogin, Connection, Credentials, Pipeline, Security, Tls},
};

/// Folder with the certificate of the ports.
pub(super) const CERTIFICATE_FOLDER: &str = "/etc/ping/tls";

/// Folder with the CA of the Kafka brokers.
pub(super) const KAFKA_CA_FOLDER: &str = "/etc/ping/kafka-ca";
/// Folder with the client certificate for Kafka.
pub(super) const KAFKA_CERTIFICATE_FOLDER: &str = "/etc/ping/kafka-certificate";

/// Folder with the CA of Postgres.
pub(super) const POSTGRES_CA_FOLDER: &str = "/etc/ping/postgres-ca";
/// Folder with the client certificate for Postgres.
pub(super) const POSTGRES_CERTIFICATE_FOLDER: &str = "/etc/ping/postgres-certificate";
/// Folder with the CA of the cache.
pub(super) const CACHE_CA_FOLDER: &str = "/etc/ping/cache-ca";
/// Folder with the client certificate for the cache.
pub(super) const CACHE_CERTIFICATE_FOLDER: &str = "/etc/ping/cache-certificate";

/// Variables of `program`, which is `server` or `processor`; `credentials` are its own.
pub(super) fn shared(
    pipeline: &Pipeline,
    program: &str,
    connection: &Connection,
    credentials: &Credentials,
    pod: &PodSpec,
) -> Vec<EnvVar> {
    let mut variables = vec![value(env::ADMIN_LISTEN, "0.0.0.0:8081")];
    variables.extend(postgres(pipeline));
    variables.extend([
        value(env::KAFKA_BROKERS, &connection.brokers),
        value(env::KAFKA_TOPIC, &pipeline.kafka.topic.name),
        value(env::KAFKA_DEAD_LETTER_TOPIC, &pipeline.kafka.dead_letter.name),
        value(env::KAFKA_GROUP, &consumer_group(pipeline)),
    ]);
    variables.extend(kafka_credentials(connection, credentials));
    variables.extend(cache(pipeline, program));
    variables.extend([value(env::WINDOW_MINUTES, &pipeline.processor.window_minutes.to_string())]);
    variables.extend(sources(&pipeline.sources));
    variables.push(value(env::EVENT_RETENTION_DAYS, &pipeline.events.retention_days.to_string()));
    let overridden = pod.env.iter().any(|variable| variable.name == env::STATUS_SOURCES);
    let cached = max_cached_statuses(&pipeline.cache).filter(|_| !overridden);
    variables.extend(cached.map(|sources| value(env::STATUS_SOURCES, &sources.to_string())));
    variables.extend([
        value(env::DRAIN_SECONDS, &pod.drain_seconds.to_string()),
        value(env::LOG, &pod.log),
        value(env::LOG_FORMAT, "json"),
    ]);
    variables.extend(tracing(pipeline));
    variables
}

/// Where traces go, which calls are traced, and to which pipeline their spans belong.
fn tracing(pipeline: &Pipeline) -> Vec<EnvVar> {
    let TracingSpec { endpoint, sampling_rate_per_million } = &pipeline.tracing;
    let Some(endpoint) = endpoint else { return Vec::new() };
    let ratio = f64::from(*sampling_rate_per_million) / f64::from(ALL_CALLS);
    let Names { namespace, pipeline } = &pipeline.names;
    vec![
        value(env::OTLP_ENDPOINT, endpoint),
        value(env::TRACES_SAMPLER, "parentbased_traceidratio"),
        value(env::TRACES_SAMPLER_ARG, &ratio.to_string()),
        value(env::OTEL_RESOURCE_ATTRIBUTES, &format!("k8s.namespace.name={namespace},service.namespace={pipeline}")),
    ]
}

/// Encryption of the ports, and who may call: `policy` is the file with the access policy. Only the API port asks clients for
/// certificates.
pub(super) fn security(pipeline: &Pipeline, policy: &str, has_api: bool) -> Vec<EnvVar> {
    let Security { tls, authenticated, .. } = &pipeline.security;
    let mut variables = Vec::new();
    if let Some(tls) = tls {
        variables.extend(certificate([env::TLS_CERT, env::TLS_KEY], CERTIFICATE_FOLDER));
        if let Some(mode) = tls.clients.filter(|_| has_api) {
            variables.push(value(env::TLS_CLIENT_CA, &format!("{FOLDER}/{CLIENT_CA}")));
            variables.push(value(env::TLS_CLIENT_REQUIRED, &(mode == ClientCertificates::Required).to_string()));
        }
    }
    variables.push(match authenticated {
        true => value(env::ACCESS_POLICY, &format!("{FOLDER}/{policy}")),
        false => value(env::INSECURE, "true"),
    });
    variables
}

/// URI and TLS settings of Postgres. The mode is always set, so that it does not depend on the URI.
fn postgres(pipeline: &Pipeline) -> Vec<EnvVar> {
    let mut variables = vec![secret(env::POSTGRES_URL, &pipeline.postgres_uri())];
    let Some(Tls { ca, client_certificate }) = pipeline.postgres_tls() else {
        variables.push(value(env::POSTGRES_SSLMODE, "disable"));
        return variables;
    };
    variables.push(value(env::POSTGRES_SSLMODE, "verify-full"));
    variables.extend(ca.map(|_| value(env::POSTGRES_ROOT_CERT, &format!("{POSTGRES_CA_FOLDER}/ca.crt"))));
    if client_certificate.is_some() {
        variables
            .extend(certificate([env::POSTGRES_CLIENT_CERT, env::POSTGRES_CLIENT_KEY], POSTGRES_CERTIFICATE_FOLDER));
    }
    variables
}

/// The URI of Postgres for queries, if it is another one.
pub(super) fn postgres_read_url(pipeline: &Pipeline) -> Option<EnvVar> {
    pipeline.postgres_read_uri().map(|uri| secret(env::POSTGRES_READ_URL, uri))
}

/// URL, login and TLS settings of the cache.
fn cache(pipeline: &Pipeline, program: &str) -> Vec<EnvVar> {
    let CacheLogin { username, password } = pipeline.cache.login(&pipeline.names, program);
    let Tls { ca, client_certificate } = pipeline.cache_tls().unwrap_or_default();
    let mut variables = vec![value(env::CACHE_URL, &pipeline.cache_url())];
    variables.extend(username.map(|username| value(env::CACHE_USERNAME, &username)));
    variables.extend(password.map(|password| secret(env::CACHE_PASSWORD, &password)));
    variables.extend(ca.map(|_| value(env::CACHE_CA_FILE, &format!("{CACHE_CA_FOLDER}/ca.crt"))));
    if client_certificate.is_some() {
        variables.extend(certificate([env::CACHE_CERT_FILE, env::CACHE_KEY_FILE], CACHE_CERTIFICATE_FOLDER));
    }
    variables
}

/// The files of a client certificate in `folder`.
fn certificate([cert, key]: [&str; 2], folder: &str) -> [EnvVar; 2] {
    [value(cert, &format!("{folder}/tls.crt")), value(key, &format!("{folder}/tls.key"))]
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

/// Limits of names, which only servers check.
pub(super) fn name_limits(spec: &SourcesSpec) -> [EnvVar; 2] {
    [
        value(env::MAX_SOURCES, &spec.max_sources.to_string()),
        value(env::NEW_KIND_NAMES_PER_DAY, &spec.new_kind_names_per_day.to_string()),
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
