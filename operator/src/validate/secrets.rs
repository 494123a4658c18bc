//! Fingerprints of secrets, and copies of those that live in Kafka's namespace.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use kube::api::DynamicObject;
use sha2::{Digest, Sha256};

use crate::{
    crd::{SecretKey, postgres::PostgresSpec},
    kinds::{Key, Kind},
    names::{Names, SECRETS_ANNOTATION},
    pipeline::{Authentication, Cache, Checksums, Connection, Kafka, KafkaSource, Login, SecretCopy},
    refs::Refs,
};

/// Stands for secrets that do not exist yet.
const PENDING: &str = "pending";

/// One fingerprint per workload over the secret keys it reads at start. While one of them is missing the fingerprint stays
/// what it was: a Secret on its way from one version to the next restarts nothing.
pub(super) fn checksums(
    names: &Names,
    postgres: &PostgresSpec,
    kafka: &Kafka,
    cache: &Cache,
    refs: &Refs,
) -> Checksums {
    let uri = postgres.external.as_ref().map_or_else(|| names.postgres_uri(), |external| external.uri.clone());
    let workload = |login: Option<&Login>, deployment: &str| {
        let mut keys = vec![uri.clone()];
        keys.extend(cache.password().cloned());
        keys.extend(kafka.connection.as_ref().and_then(|connection| connection.ca.clone()));
        keys.extend(login.into_iter().flat_map(login_keys));
        let previous = previous(refs, &names.key(Kind::Deployment, names.part(deployment)), "/spec/template/metadata");
        fingerprint(names, &keys, refs).or(previous).unwrap_or_else(|| PENDING.into())
    };
    let connection = kafka.connection.as_ref();
    let password: Vec<SecretKey> = cache.password().cloned().into_iter().collect();
    let cache_before = previous(refs, &names.key(Kind::Dragonfly, names.cache()), "/spec/podMetadata");
    Checksums {
        server: workload(connection.map(|Connection { server, .. }| server), "server"),
        processor: workload(connection.map(|Connection { processor, .. }| processor), "processor"),
        cache: fingerprint(names, &password, refs).or(cache_before).unwrap_or_else(|| PENDING.into()),
    }
}

fn login_keys(login: &Login) -> Vec<SecretKey> {
    match login {
        Login::Nothing => Vec::new(),
        Login::Password { password, .. } => vec![password.clone()],
        Login::Certificate(secret) => {
            ["user.crt", "user.key"].map(|key| SecretKey { name: secret.clone(), key: key.into() }).into()
        }
    }
}

/// SHA-256 over the values, salted with the pipeline's name so that equal passwords do not show as equal.
fn fingerprint(names: &Names, keys: &[SecretKey], refs: &Refs) -> Option<String> {
    let mut digest = Sha256::new();
    digest.update(names.namespace.as_bytes());
    digest.update(names.pipeline.as_bytes());
    for key in keys {
        let value = local_secret(names, key, refs)?;
        digest.update(key.name.as_bytes());
        digest.update(key.key.as_bytes());
        digest.update(value.len().to_be_bytes());
        digest.update(value);
    }
    Some(digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

/// A secret of the pipeline's namespace, or the original of what will be copied there.
fn local_secret<'a>(names: &Names, key: &SecretKey, refs: &'a Refs) -> Option<&'a [u8]> {
    refs.secret(&names.namespace, &key.name, &key.key)
}

fn previous(refs: &Refs, key: &Key, metadata: &str) -> Option<String> {
    let read = |object: &DynamicObject| {
        let annotations = object.data.pointer(metadata)?.get("annotations")?;
        annotations.get(SECRETS_ANNOTATION)?.as_str().map(str::to_owned)
    };
    refs.live.get(key).and_then(read)
}

/// Copies for a Kafka in another namespace: pods can only read secrets of their own.
pub(super) fn copies(names: &Names, kafka: &Kafka, refs: &Refs) -> Vec<SecretCopy> {
    let KafkaSource::Reference(reference) = &kafka.source else { return Vec::new() };
    let Some(connection) = kafka.connection.as_ref().filter(|_| reference.namespace != names.namespace) else {
        return Vec::new();
    };
    let copy = |from: String, to: String, keys: &[&str]| {
        let data: Option<BTreeMap<String, ByteString>> = keys
            .iter()
            .map(|key| {
                let value = refs.secret(&reference.namespace, &from, key)?;
                Some(((*key).to_owned(), ByteString(value.to_vec())))
            })
            .collect();
        SecretCopy { name: to, data }
    };
    let mut copies = Vec::new();
    if connection.tls {
        copies.push(copy(format!("{}-cluster-ca-cert", reference.name), names.kafka_ca_copy(), &["ca.crt"]));
    }
    let keys: &[&str] = match reference.authentication {
        Some(Authentication::Scram) => &["password"],
        Some(Authentication::Certificate) => &["user.crt", "user.key"],
        Some(Authentication::Nothing) | None => return copies,
    };
    for role in ["server", "processor"] {
        let user = format!("{}-{}-{role}", names.namespace, names.pipeline);
        copies.push(copy(user, names.kafka_login(role), keys));
    }
    copies
}
