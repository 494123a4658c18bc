//! Names and labels of all objects that belong to a pipeline. Pure functions of the pipeline's name and namespace.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::{
    crd::{PingPipeline, SecretKey, kafka::KafkaClusterRef},
    kinds::{Key, Kind},
};

/// Field manager of the operator, and the value of `app.kubernetes.io/managed-by`.
pub const OPERATOR: &str = "ping-operator";
/// Label: name of the pipeline that an object belongs to.
pub const PIPELINE_LABEL: &str = "pingpipeline.io/pipeline";
/// Label: namespace of the pipeline that an object belongs to.
pub const NAMESPACE_LABEL: &str = "pingpipeline.io/namespace";
/// Label: the component that an object belongs to, such as `server`.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Annotation of objects without an owner reference (data, and objects in another namespace): the pipeline that they belong to, as
/// `<namespace>/<name>`.
pub const OWNER_ANNOTATION: &str = "pingpipeline.io/owner";
/// Annotation that completes `OWNER_ANNOTATION`: the UID of that pipeline. A deletion with `Retain` removes it, so that a new pipeline of
/// the same name may use the object again.
pub const OWNER_UID_ANNOTATION: &str = "pingpipeline.io/owner-uid";
/// Label of Secrets and ConfigMaps: `true` allows pipelines in the same namespace to refer to them.
pub const ALLOW_REFERENCE_LABEL: &str = "pingpipeline.io/allow-reference";
/// Annotation: fingerprint of the manifest that was last applied.
pub const APPLIED_ANNOTATION: &str = "pingpipeline.io/applied";
/// Annotation of pod templates: fingerprint of the Secrets that the pods read at startup.
pub const SECRETS_ANNOTATION: &str = "pingpipeline.io/secrets";
/// Annotation of a PingPipeline: `true` removes Strimzi's finalizer from topics whose deletion is blocked.
pub const FORCE_ANNOTATION: &str = "pingpipeline.io/force-delete";
/// Finalizer of a PingPipeline.
pub const FINALIZER: &str = "pingpipeline.io/teardown";
/// The plugin of CloudNativePG that makes backups.
pub const BARMAN_PLUGIN: &str = "barman-cloud.cloudnative-pg.io";

/// Length of the readable part of a unique name.
const READABLE_BYTES: usize = 24;
/// Bytes of the hash in a unique name.
const HASH_BYTES: usize = 10;

/// Names of the objects of one pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline's namespace.
    pub namespace: String,
}

impl Names {
    /// The names for `pipeline`.
    #[must_use]
    pub fn of(pipeline: &PingPipeline) -> Self {
        Self {
            pipeline: pipeline.metadata.name.clone().unwrap_or_default(),
            namespace: pipeline.metadata.namespace.clone().unwrap_or_default(),
        }
    }

    /// `<pipeline>-<part>`.
    #[must_use]
    pub fn part(&self, part: &str) -> String {
        format!("{}-{part}", self.pipeline)
    }

    /// The CloudNativePG cluster; its Services' names start with it.
    #[must_use]
    pub fn postgres(&self) -> String {
        self.part("postgres")
    }

    /// The object store with the backups that the cluster was restored from.
    #[must_use]
    pub fn postgres_origin(&self) -> String {
        self.part("postgres-origin")
    }

    /// The Secret key to which CloudNativePG writes the connection URI.
    #[must_use]
    pub fn postgres_uri(&self) -> SecretKey {
        SecretKey { name: self.part("postgres-app"), key: "uri".into() }
    }

    /// The Secret key to which CloudNativePG writes the CA of the cluster's certificates.
    #[must_use]
    pub fn postgres_ca(&self) -> SecretKey {
        SecretKey { name: self.part("postgres-ca"), key: "ca.crt".into() }
    }

    /// The pipeline's own Strimzi Kafka cluster.
    #[must_use]
    pub fn kafka(&self) -> String {
        self.part("kafka")
    }

    /// Prefix of the names of KafkaTopics and KafkaUsers: in a Kafka cluster of its own the pipeline's name, in a shared one
    /// [`Names::unique`].
    #[must_use]
    pub fn kafka_prefix(&self, reference: Option<&KafkaClusterRef>) -> String {
        match reference {
            Some(_) => self.unique(),
            None => self.pipeline.clone(),
        }
    }

    /// A name that no other pipeline of the cluster has, in at most 45 bytes: the start of `<namespace>-<pipeline>`, and the first 80
    /// bits of the SHA-256 of `<namespace>/<pipeline>`. Joining the two with `-` alone would give `b` in `team-a` the name of `a-b` in
    /// `team`. With the longest suffix, `-pings-dead-letter`, it has 63 bytes; Strimzi's limit for users is 64.
    #[must_use]
    pub fn unique(&self) -> String {
        let mut readable = format!("{}-{}", self.namespace, self.pipeline);
        readable.truncate(readable.floor_char_boundary(READABLE_BYTES));
        let digest = Sha256::digest(format!("{}/{}", self.namespace, self.pipeline));
        let hash: String = digest.iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{hash}", readable.trim_end_matches('-'))
    }

    /// Prefix of the names that topics have inside a shared Kafka cluster. Neither part can contain a dot, so that no prefix is the
    /// start of another.
    #[must_use]
    pub fn topic_prefix(&self) -> String {
        format!("{}.{}.", self.namespace, self.pipeline)
    }

    /// The value of [`OWNER_ANNOTATION`].
    #[must_use]
    pub fn owner(&self) -> String {
        format!("{}/{}", self.namespace, self.pipeline)
    }

    /// The Secret in the pipeline's namespace that holds the Kafka credentials of `role` (`server` or `processor`).
    #[must_use]
    pub fn kafka_credentials(&self, role: &str) -> String {
        self.part(&format!("kafka-{role}"))
    }

    /// The Secret in the pipeline's namespace that holds a copy of the CA of a Kafka cluster in another namespace.
    #[must_use]
    pub fn kafka_ca_copy(&self) -> String {
        self.part("kafka-ca")
    }

    /// The Dragonfly and its Service.
    #[must_use]
    pub fn cache(&self) -> String {
        self.part("cache")
    }

    /// The Secret with the logins of the cache: a password per program, and the access control list.
    #[must_use]
    pub fn cache_login(&self) -> String {
        self.part("cache-login")
    }

    /// The Secret with the certificate of the cache.
    #[must_use]
    pub fn cache_certificate(&self) -> String {
        self.part("cache-tls")
    }

    /// The Secret key with the certificates of the pipeline's own authority, which clients trust. The Secret has no private
    /// key.
    #[must_use]
    pub fn authority(&self) -> SecretKey {
        SecretKey { name: self.part("ca"), key: "ca.crt".into() }
    }

    /// The Secret with the private keys of the pipeline's own authority. Only the operator reads it.
    #[must_use]
    pub fn authority_keys(&self) -> String {
        self.part("ca-keys")
    }

    /// The Secret with the certificate of the servers.
    #[must_use]
    pub fn server_certificate(&self) -> String {
        self.part("server-tls")
    }

    /// The Secret with the certificate of the processors' admin port.
    #[must_use]
    pub fn processor_certificate(&self) -> String {
        self.part("processor-tls")
    }

    /// The Secret with the certificate that the operator presents to servers that require one.
    #[must_use]
    pub fn operator_certificate(&self) -> String {
        self.part("operator-tls")
    }

    /// The Secret with the access policy and the files that it names. It has no tokens, only their digests.
    #[must_use]
    pub fn access(&self) -> String {
        self.part("access")
    }

    /// The Secret key with the first token.
    #[must_use]
    pub fn first_token(&self) -> SecretKey {
        SecretKey { name: self.part("token"), key: "token".into() }
    }

    /// The Secret key with the token with which the operator asks for the count.
    #[must_use]
    pub fn operator_token(&self) -> SecretKey {
        SecretKey { name: self.part("operator-token"), key: "token".into() }
    }

    /// The Secret key with the token with which Prometheus reads metrics.
    #[must_use]
    pub fn metrics_token(&self) -> SecretKey {
        SecretKey { name: self.part("metrics-token"), key: "token".into() }
    }

    /// Every Secret that the operator issues for the pipeline.
    #[must_use]
    pub fn issued_secrets(&self) -> BTreeSet<String> {
        let certificates = [
            self.authority().name,
            self.authority_keys(),
            self.cache_certificate(),
            self.server_certificate(),
            self.processor_certificate(),
            self.operator_certificate(),
        ];
        let tokens = [self.first_token(), self.operator_token(), self.metrics_token()].map(|key| key.name);
        certificates.into_iter().chain(tokens).chain([self.cache_login(), self.access()]).collect()
    }

    /// The DNS name of a Service of the pipeline, as its certificates have it.
    #[must_use]
    pub fn service_host(&self, component: &str) -> String {
        format!("{}.{}.svc", self.part(component), self.namespace)
    }

    /// Labels by which the operator finds the objects of this pipeline.
    #[must_use]
    pub fn ownership(&self) -> BTreeMap<String, String> {
        [(PIPELINE_LABEL.to_owned(), self.pipeline.clone()), (NAMESPACE_LABEL.to_owned(), self.namespace.clone())]
            .into()
    }

    /// Labels of an object of `component`, including the labels that Kubernetes recommends.
    #[must_use]
    pub fn labels(&self, component: &str) -> BTreeMap<String, String> {
        let mut labels = self.ownership();
        labels.extend(
            [
                ("app.kubernetes.io/name", "ping"),
                ("app.kubernetes.io/instance", self.pipeline.as_str()),
                (COMPONENT_LABEL, component),
                ("app.kubernetes.io/part-of", "pingpipeline"),
                ("app.kubernetes.io/managed-by", OPERATOR),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        labels
    }

    /// Labels that select the pods of `component`. They never change.
    #[must_use]
    pub fn selector(&self, component: &str) -> BTreeMap<String, String> {
        let mut labels = self.instance();
        labels.insert(COMPONENT_LABEL.into(), component.into());
        labels
    }

    /// Labels that select the pods of servers and processors.
    #[must_use]
    pub fn instance(&self) -> BTreeMap<String, String> {
        [("app.kubernetes.io/name", "ping"), ("app.kubernetes.io/instance", self.pipeline.as_str())]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    /// The object of `kind` called `name` in the pipeline's namespace.
    #[must_use]
    pub fn key(&self, kind: Kind, name: impl Into<String>) -> Key {
        Key::new(kind, self.namespace.clone(), name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(namespace: &str, pipeline: &str) -> Names {
        Names { namespace: namespace.into(), pipeline: pipeline.into() }
    }

    #[test]
    fn pipelines_whose_joined_names_are_equal_have_different_unique_names() {
        let (long_namespace, long_name) = ("n".repeat(63), "p".repeat(40));
        let hostile = [
            ("team", "a-b"),
            ("team-a", "b"),
            ("team", "a--b"),
            ("team-a-", "b"),
            ("a", "a-a-a"),
            ("a-a", "a-a"),
            ("a-a-a", "a"),
            (&*long_namespace, &*long_name),
            (&long_namespace, &long_name[1..]),
            (&long_namespace[1..], &long_name),
            ("0-0", "a"),
            ("0", "0-a"),
        ];
        let unique: BTreeSet<String> =
            hostile.iter().map(|(namespace, name)| names(namespace, name).unique()).collect();
        assert_eq!(unique.len(), hostile.len(), "{unique:?}");
        for name in &unique {
            assert!(name.len() <= 45, "{name}");
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
                "{name}"
            );
        }
        let prefixes: Vec<String> =
            hostile.iter().map(|(namespace, name)| names(namespace, name).topic_prefix()).collect();
        for (at, prefix) in prefixes.iter().enumerate() {
            let starts = prefixes.iter().filter(|other| other.starts_with(prefix.as_str())).count();
            assert_eq!(starts, 1, "{prefix} of {:?} is the start of another prefix", hostile[at]);
        }
    }

    #[test]
    fn unique_names_are_the_same_in_every_release() {
        assert_eq!(names("default", "shared").unique(), "default-shared-6c8b4baab4833a3eb199");
    }
}
