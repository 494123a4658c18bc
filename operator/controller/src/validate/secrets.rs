//! Fingerprints of Secrets, and copies of Secrets from Kafka's namespace.

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
    cluster_state::ClusterState,
    pipeline::{Authentication, Cache, Checksums, Connection, Credentials, Kafka, KafkaMode, SecretCopy},
};

/// Fingerprint of Secrets that do not exist yet.
const PENDING: &str = "pending";

/// One fingerprint per workload, over the Secret keys that it reads at startup. While a Secret is missing, the previous fingerprint
/// is kept, so that rotating a Secret by deleting and recreating it causes only one restart.
pub(super) struct Fingerprints<'a> {
    names: &'a Names,
    postgres: SecretKey,
    cache: Option<SecretKey>,
    connection: Option<Connection>,
    state: &'a ClusterState,
}

impl<'a> Fingerprints<'a> {
    pub(super) fn new(
        names: &'a Names,
        postgres: &PostgresSpec,
        kafka: &Kafka,
        cache: &Cache,
        state: &'a ClusterState,
    ) -> Self {
        let uri = postgres.external.as_ref().map_or_else(|| names.postgres_uri(), |external| external.uri.clone());
        Self { names, postgres: uri, cache: cache.password().cloned(), connection: kafka.connection.clone(), state }
    }

    /// Fingerprint for servers of `role`.
    pub(super) fn servers(&self, role: Role) -> String {
        let connection = self.connection.as_ref().filter(|_| role.ingests());
        self.workload(connection.map(|Connection { server, .. }| server), role.component())
    }

    /// Fingerprints for processors and the cache.
    pub(super) fn checksums(&self) -> Checksums {
        let processor = self.connection.as_ref().map(|Connection { processor, .. }| processor);
        let before = previous(self.state, &self.names.key(Kind::Dragonfly, self.names.cache()), "/spec/podMetadata");
        let password: Vec<SecretKey> = self.cache.iter().cloned().collect();
        Checksums {
            processor: self.workload(processor, "processor"),
            cache: fingerprint(self.names, &password, self.state).or(before).unwrap_or_else(|| PENDING.into()),
        }
    }

    fn workload(&self, credentials: Option<&Credentials>, component: &str) -> String {
        let ca = self.connection.as_ref().and_then(|connection| connection.ca.clone());
        let mut keys = vec![self.postgres.clone()];
        keys.extend(self.cache.clone().into_iter().chain(ca));
        keys.extend(credentials.into_iter().flat_map(credential_keys));
        let deployment = self.names.key(Kind::Deployment, self.names.part(component));
        let before = previous(self.state, &deployment, "/spec/template/metadata");
        fingerprint(self.names, &keys, self.state).or(before).unwrap_or_else(|| PENDING.into())
    }
}

fn credential_keys(credentials: &Credentials) -> Vec<SecretKey> {
    match credentials {
        Credentials::None => Vec::new(),
        Credentials::Password { password, .. } => vec![password.clone()],
        Credentials::Certificate(secret) => {
            ["user.crt", "user.key"].map(|key| SecretKey { name: secret.clone(), key: key.into() }).into()
        }
    }
}

/// SHA-256 over the values, salted with the pipeline's name so that equal passwords of two pipelines have different fingerprints.
fn fingerprint(names: &Names, keys: &[SecretKey], state: &ClusterState) -> Option<String> {
    let mut digest = Sha256::new();
    digest.update(names.namespace.as_bytes());
    digest.update(names.pipeline.as_bytes());
    for key in keys {
        let value = local_secret(names, key, state)?;
        digest.update(key.name.as_bytes());
        digest.update(key.key.as_bytes());
        digest.update(value.len().to_be_bytes());
        digest.update(value);
    }
    Some(digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

/// The value of a Secret key in the pipeline's namespace.
fn local_secret<'a>(names: &Names, key: &SecretKey, state: &'a ClusterState) -> Option<&'a [u8]> {
    state.secret(&names.namespace, &key.name, &key.key)
}

fn previous(state: &ClusterState, key: &Key, metadata: &str) -> Option<String> {
    let read = |object: &DynamicObject| {
        let annotations = object.data.pointer(metadata)?.get("annotations")?;
        annotations.get(SECRETS_ANNOTATION)?.as_str().map(str::to_owned)
    };
    state.live.get(key).and_then(read)
}

/// Copies for a Kafka cluster in another namespace, because pods can read only Secrets in their own namespace.
pub(super) fn copies(names: &Names, kafka: &Kafka, state: &ClusterState) -> Vec<SecretCopy> {
    let KafkaMode::Shared(reference) = &kafka.mode else { return Vec::new() };
    let Some(connection) = kafka.connection.as_ref().filter(|_| reference.namespace != names.namespace) else {
        return Vec::new();
    };
    let copy = |from: String, to: String, keys: &[&str]| {
        let data: Option<BTreeMap<String, ByteString>> = keys
            .iter()
            .map(|key| {
                let value = state.secret(&reference.namespace, &from, key)?;
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
        Some(Authentication::None) | None => return copies,
    };
    for role in ["server", "processor"] {
        let user = format!("{}-{}-{role}", names.namespace, names.pipeline);
        copies.push(copy(user, names.kafka_credentials(role), keys));
    }
    copies
}
