//! Fingerprints of Secrets, and copies of Secrets from Kafka's namespace.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::EnvVar};
use kube::api::DynamicObject;
use ping_api::{
    crd::{PingPipelineSpec, SecretKey, workload::PodSpec},
    kinds::{Key, Kind},
    names::{Names, SECRETS_ANNOTATION},
    reason::Reason,
    roles::Role,
};
use sha2::{Digest, Sha256};

use super::invalid::Invalid;
use crate::{
    cluster_state::ClusterState,
    credentials::{ACL, DEFAULT_PASSWORD},
    pipeline::{Authentication, Cache, Checksums, Connection, Credentials, Kafka, KafkaMode, Postgres, SecretCopy},
};

/// Rejects Secrets of others under the names of those that the operator issues: anyone who wrote them knows the tokens and keys in them.
pub(super) fn own(names: &Names, state: &ClusterState) -> Result<(), Invalid> {
    let Some((key, owner)) = state.foreign_secrets.first_key_value() else { return Ok(()) };
    Err(Invalid::Refused(
        Reason::NameConflict,
        format!(
            "{key} belongs to {owner}, but the operator needs this name for a Secret of PingPipeline {}. Its content is not used. Delete or \
             rename it, or rename the pipeline",
            names.pipeline
        ),
    ))
}

/// Fingerprint of Secrets that do not exist yet.
const PENDING: &str = "pending";

/// One fingerprint per workload, over the Secret keys that it reads at startup. While a Secret is missing, the previous fingerprint
/// is kept, so that rotating a Secret by deleting and recreating it causes only one restart.
pub(super) struct Fingerprints<'a> {
    spec: &'a PingPipelineSpec,
    names: &'a Names,
    postgres: &'a Postgres,
    cache: &'a Cache,
    connection: Option<Connection>,
    state: &'a ClusterState,
}

impl<'a> Fingerprints<'a> {
    pub(super) fn new(
        spec: &'a PingPipelineSpec,
        names: &'a Names,
        postgres: &'a Postgres,
        kafka: &Kafka,
        cache: &'a Cache,
        state: &'a ClusterState,
    ) -> Self {
        Self { spec, names, postgres, cache, connection: kafka.connection.clone(), state }
    }

    /// Fingerprint for servers of `role`.
    pub(super) fn servers(&self, role: Role) -> String {
        let connection = self.connection.as_ref().filter(|_| role.ingests());
        let read_uri = match self.postgres {
            Postgres::External(external) if role.queries() => external.read_uri.clone(),
            Postgres::External(_) | Postgres::Cluster(_) => None,
        };
        let credentials = connection.map(|Connection { server, .. }| server);
        self.workload(credentials, ("server", &self.spec.server.pod), role.component(), read_uri)
    }

    /// Fingerprints for processors and the cache.
    pub(super) fn checksums(&self) -> Checksums {
        let processor = self.connection.as_ref().map(|Connection { processor, .. }| processor);
        let before = previous(self.state, &self.names.key(Kind::Dragonfly, self.names.cache()), "/spec/podMetadata");
        let key = |name: String, key: &str| SecretKey { name, key: key.into() };
        let read_at_start = [
            key(self.names.cache_login(), DEFAULT_PASSWORD),
            key(self.names.cache_login(), ACL),
            key(self.names.cache_certificate(), "tls.crt"),
        ];
        Checksums {
            processor: self.workload(processor, ("processor", &self.spec.processor.pod), "processor", None),
            cache: fingerprint(self.names, &read_at_start, self.state).or(before).unwrap_or_else(|| PENDING.into()),
        }
    }

    /// The CAs and certificates of Postgres and the cache are not among the keys: programs read their files for each connection.
    fn workload(
        &self,
        credentials: Option<&Credentials>,
        (program, pod): (&str, &PodSpec),
        component: &str,
        read_uri: Option<SecretKey>,
    ) -> String {
        let ca = self.connection.as_ref().and_then(|connection| connection.ca.clone());
        let uri = match self.postgres {
            Postgres::External(external) => external.uri.clone(),
            Postgres::Cluster(_) => self.names.postgres_uri(),
        };
        let mut keys = vec![uri];
        keys.extend(read_uri.into_iter().chain(self.cache.login(self.names, program).password).chain(ca));
        keys.extend(credentials.into_iter().flat_map(credential_keys));
        keys.extend(pod.env.iter().filter_map(secret_of));
        let deployment = self.names.key(Kind::Deployment, self.names.part(component));
        let before = previous(self.state, &deployment, "/spec/template/metadata");
        fingerprint(self.names, &keys, self.state).or(before).unwrap_or_else(|| PENDING.into())
    }
}

/// The Secret key from which `variable` has its value.
fn secret_of(variable: &EnvVar) -> Option<SecretKey> {
    let selected = variable.value_from.as_ref()?.secret_key_ref.as_ref()?;
    Some(SecretKey { name: selected.name.clone(), key: selected.key.clone() })
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
        let user = format!("{}-{role}", names.unique());
        copies.push(copy(user, names.kafka_credentials(role), keys));
    }
    copies
}
