//! Fingerprints of secrets, and copies of those that live in Kafka's namespace.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use kube::api::DynamicObject;
use ping_api::{
    crd::{SecretKey, postgres::PostgresSpec},
    kinds::{Key, Kind},
    names::{Names, SECRETS_ANNOTATION},
    roles::Role,
};
use sha2::{Digest, Sha256};

use crate::{
    cluster_state::Refs,
    pipeline::{Authentication, Cache, Checksums, Connection, Kafka, KafkaSource, Login, SecretCopy},
};

/// Stands for secrets that do not exist yet.
const PENDING: &str = "pending";

/// One fingerprint per workload over the secret keys it reads at start. While one of them is missing the fingerprint stays
/// what it was: a Secret on its way from one version to the next restarts nothing.
pub(super) struct Fingerprints<'a> {
    names: &'a Names,
    postgres: SecretKey,
    cache: Option<SecretKey>,
    connection: Option<Connection>,
    refs: &'a Refs,
}

impl<'a> Fingerprints<'a> {
    pub(super) fn new(names: &'a Names, postgres: &PostgresSpec, kafka: &Kafka, cache: &Cache, refs: &'a Refs) -> Self {
        let uri = postgres.external.as_ref().map_or_else(|| names.postgres_uri(), |external| external.uri.clone());
        Self { names, postgres: uri, cache: cache.password().cloned(), connection: kafka.connection.clone(), refs }
    }

    /// What servers of `role` read.
    pub(super) fn servers(&self, role: Role) -> String {
        let connection = self.connection.as_ref().filter(|_| role.takes_events());
        self.workload(connection.map(|Connection { server, .. }| server), role.component())
    }

    /// What processors and the cache read.
    pub(super) fn checksums(&self) -> Checksums {
        let processor = self.connection.as_ref().map(|Connection { processor, .. }| processor);
        let before = previous(self.refs, &self.names.key(Kind::Dragonfly, self.names.cache()), "/spec/podMetadata");
        let password: Vec<SecretKey> = self.cache.iter().cloned().collect();
        Checksums {
            processor: self.workload(processor, "processor"),
            cache: fingerprint(self.names, &password, self.refs).or(before).unwrap_or_else(|| PENDING.into()),
        }
    }

    fn workload(&self, login: Option<&Login>, component: &str) -> String {
        let ca = self.connection.as_ref().and_then(|connection| connection.ca.clone());
        let mut keys = vec![self.postgres.clone()];
        keys.extend(self.cache.clone().into_iter().chain(ca));
        keys.extend(login.into_iter().flat_map(login_keys));
        let deployment = self.names.key(Kind::Deployment, self.names.part(component));
        let before = previous(self.refs, &deployment, "/spec/template/metadata");
        fingerprint(self.names, &keys, self.refs).or(before).unwrap_or_else(|| PENDING.into())
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
