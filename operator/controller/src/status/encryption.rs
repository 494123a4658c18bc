//! The conditions `Encrypted` and `Authenticated`: which connections the spec leaves in plaintext, and what it opens to everyone.

use ping_api::reason::Reason;

use crate::{
    condition::ConditionValue,
    pipeline::{KafkaMode, Pipeline, Security},
};

pub(super) fn encrypted(pipeline: &Pipeline) -> ConditionValue {
    let plaintext = plaintext(pipeline);
    if plaintext.is_empty() {
        let message =
            "connections to Postgres, Kafka, the cache and the servers use TLS, and their certificates are verified";
        return ConditionValue::met(Reason::VerifiedTls, message);
    }
    ConditionValue::not_met(Reason::Plaintext, plaintext.join("; and "))
}

pub(super) fn authenticated(pipeline: &Pipeline) -> ConditionValue {
    let Security { authenticated, anonymous, .. } = &pipeline.security;
    if !authenticated {
        return ConditionValue::not_met(
            Reason::Anonymous,
            "spec.server.authentication.mode is Disable, so anyone who reaches the servers may record, read and recount events",
        );
    }
    if anonymous.is_empty() {
        let message = "calls need valid credentials, except for health checks";
        return ConditionValue::met(Reason::CredentialsRequired, message);
    }
    let permissions: Vec<&str> = anonymous.iter().map(|permission| permission.as_str()).collect();
    let message = format!(
        "spec.server.authorization.anonymous gives callers without credentials these permissions, for all sources and kinds: {}",
        permissions.join(", ")
    );
    ConditionValue::not_met(Reason::Anonymous, message)
}

/// The connections in plaintext, one clause each.
fn plaintext(pipeline: &Pipeline) -> Vec<String> {
    let mut found = Vec::new();
    if pipeline.security.tls.is_none() {
        let clause =
            "spec.server.tls.mode is Disable, so callers and servers exchange events, counts and tokens in plaintext";
        found.push(clause.into());
    }
    if pipeline.postgres_tls().is_none() {
        found.push(
            "spec.postgres.external.tls.mode is Disable, so events and the password are sent to Postgres in plaintext"
                .into(),
        );
    }
    if pipeline.kafka.connection.as_ref().is_some_and(|connection| !connection.tls) {
        found.push(match &pipeline.kafka.mode {
            KafkaMode::Shared(kafka) => format!(
                "the listener of Kafka {}/{} in spec.kafka.clusterRef has no TLS, so events are sent to it in plaintext",
                kafka.namespace, kafka.name
            ),
            KafkaMode::Managed(_) | KafkaMode::External(_) => {
                "spec.kafka.external.tls is absent, so events and the password are sent to Kafka in plaintext".into()
            }
        });
    }
    if pipeline.cache_tls().is_none() {
        found.push(
            "spec.cache.external.tls.mode is Disable, so counts, sources and the password are sent to the cache in plaintext".into(),
        );
    }
    found
}
