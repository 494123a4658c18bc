//! A validated pipeline: all defaults are set and all references resolved. Later steps do not read the raw spec.

use ping_api::{
    crd::{
        DeletionPolicy, Durability, MonitoringSpec, NetworkPolicySpec, SecretKey,
        cache::{DragonflySpec, ExternalCache},
        kafka::{ExternalKafka, KafkaCluster, SaslMechanism},
        postgres::{ExternalPostgres, PostgresCluster},
        sources::SourcesSpec,
        workload::{ProcessorSpec, ServerSpec},
    },
    names::Names,
    roles::Role,
};

/// Everything that `build` and `status` need to know about a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Names of its objects.
    pub names: Names,
    /// UID of the PingPipeline, for owner references.
    pub uid: String,
    /// Guarantee behind an acknowledgement.
    pub durability: Durability,
    /// What happens to the data on deletion.
    pub deletion_policy: DeletionPolicy,
    /// Whether workloads are scaled to zero.
    pub hibernate: bool,
    /// The system of record.
    pub postgres: Postgres,
    /// Kafka, its topics and how to connect.
    pub kafka: Kafka,
    /// The cache of counters.
    pub cache: Cache,
    /// Server Deployments: one for both roles, or one per role.
    pub servers: Vec<ServerDeployment>,
    /// Roles of the previous layout. Their Deployments stay until those in `servers` are available.
    pub retiring: Vec<Role>,
    /// Settings of the processors, including the image.
    pub processor: ProcessorSpec,
    /// Status rule and retention of sources.
    pub sources: SourcesSpec,
    /// Network policies.
    pub network_policy: NetworkPolicySpec,
    /// Metrics for Prometheus.
    pub monitoring: MonitoringSpec,
    /// Fingerprints of the Secrets that pods read at startup.
    pub checksums: Checksums,
    /// `replicas` of the processor Deployment; `None` if an autoscaler owns the field.
    pub processor_replicas: Option<i32>,
    /// Secrets to copy from Kafka's namespace to the pipeline's.
    pub copies: Vec<SecretCopy>,
    /// Settings that could lose acknowledged events, one clause each. Always empty for `Exact`.
    pub durability_risks: Vec<String>,
}

/// The system of record.
#[derive(Clone, Debug, PartialEq)]
pub enum Postgres {
    /// A CloudNativePG cluster.
    Cluster(Box<PostgresCluster>),
    /// An existing Postgres.
    External(ExternalPostgres),
}

/// Kafka, its topics and how to connect.
#[derive(Clone, Debug, PartialEq)]
pub struct Kafka {
    /// How Kafka is provided.
    pub mode: KafkaMode,
    /// The topic for events.
    pub topic: Topic,
    /// The topic for records that cannot be processed.
    pub dead_letter: Topic,
    /// The topic for per-minute summaries; `None` if they are disabled.
    pub minutes: Option<Topic>,
    /// How to connect; `None` while the address of a shared Kafka cluster is unknown.
    pub connection: Option<Connection>,
}

/// How Kafka is provided.
#[derive(Clone, Debug, PartialEq)]
pub enum KafkaMode {
    /// The operator creates a Strimzi cluster for this pipeline.
    Managed(KafkaCluster),
    /// An existing Strimzi cluster is used.
    Shared(SharedKafka),
    /// Kafka is not managed by Strimzi.
    External(ExternalKafka),
}

/// An existing Strimzi cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedKafka {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// How its listener authenticates clients; `None` while unknown.
    pub authentication: Option<Authentication>,
    /// Whether it enforces ACLs.
    pub authorization: bool,
}

/// How a listener authenticates clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// No authentication.
    None,
    /// SCRAM-SHA-512.
    Scram,
    /// Client certificates.
    Certificate,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name in Kafka.
    pub name: String,
    /// Name of its KafkaTopic object.
    pub object: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Replicas of each partition.
    pub replicas: i32,
    /// Replicas that must store a record before Kafka accepts it.
    pub min_in_sync_replicas: i32,
    /// Which records Kafka keeps.
    pub cleanup_policy: CleanupPolicy,
}

/// Cleanup policy of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// Records are deleted after this many milliseconds.
    Delete(i64),
    /// The latest record of each key is kept.
    Compact,
}

impl Kafka {
    /// All topics in use.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        [&self.topic, &self.dead_letter].into_iter().chain(&self.minutes)
    }
}

/// How to connect to Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// `host:port[,host:port…]`.
    pub brokers: String,
    /// Whether the connection uses TLS.
    pub tls: bool,
    /// Secret key with the CA of the brokers, in the pipeline's namespace; `None` means the public CAs.
    pub ca: Option<SecretKey>,
    /// Credentials of servers.
    pub server: Credentials,
    /// Credentials of processors.
    pub processor: Credentials,
}

/// Credentials for Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// No authentication.
    None,
    /// User name and password.
    Password {
        /// SASL mechanism.
        mechanism: SaslMechanism,
        /// User name.
        username: String,
        /// Secret key that holds the password.
        password: SecretKey,
    },
    /// Name of the Secret with the client certificate (`user.crt`, `user.key`).
    Certificate(String),
}

/// The cache of counters.
#[derive(Clone, Debug, PartialEq)]
pub enum Cache {
    /// A Dragonfly.
    Dragonfly(DragonflySpec),
    /// An existing cache.
    External(ExternalCache),
}

impl Cache {
    /// Secret key that holds its password, if it has one.
    #[must_use]
    pub fn password(&self) -> Option<&SecretKey> {
        match self {
            Self::Dragonfly(dragonfly) => dragonfly.password.as_ref(),
            Self::External(external) => external.password.as_ref(),
        }
    }
}

impl Pipeline {
    /// The servers that answer queries.
    #[must_use]
    pub fn query_servers(&self) -> Option<&ServerDeployment> {
        self.servers.iter().find(|servers| servers.role.queries())
    }

    /// The servers that ingest events.
    #[must_use]
    pub fn ingest_servers(&self) -> Option<&ServerDeployment> {
        self.servers.iter().find(|servers| servers.role.ingests())
    }

    /// URL of the cache, without a password.
    #[must_use]
    pub fn cache_url(&self) -> String {
        match &self.cache {
            Cache::Dragonfly(_) => format!("redis://{}.{}.svc:6379", self.names.cache(), self.names.namespace),
            Cache::External(external) => external.url.clone(),
        }
    }

    /// Secret key that holds the Postgres connection URI.
    #[must_use]
    pub fn postgres_uri(&self) -> SecretKey {
        match &self.postgres {
            Postgres::Cluster(_) => self.names.postgres_uri(),
            Postgres::External(external) => external.uri.clone(),
        }
    }

    /// Minimum number of processors.
    #[must_use]
    pub fn processors(&self) -> i32 {
        match (&self.processor.autoscaling, self.hibernate) {
            (_, true) => 0,
            (Some(scaling), false) => scaling.min_replicas,
            (None, false) => self.processor.replicas,
        }
    }
}

/// Fingerprints of the Secrets that pods read at startup; `pending` while one of them is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checksums {
    /// Secrets that processors read.
    pub processor: String,
    /// Secrets that the cache reads.
    pub cache: String,
}

/// A server Deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerDeployment {
    /// Role of the servers.
    pub role: Role,
    /// Effective settings, including the image.
    pub spec: ServerSpec,
    /// `replicas` of the Deployment; `None` if an autoscaler owns the field.
    pub replicas: Option<i32>,
    /// Fingerprint of the Secrets that the servers read at startup; `pending` while one of them is missing.
    pub checksum: String,
}

impl ServerDeployment {
    /// Minimum number of pods, unless the pipeline hibernates.
    #[must_use]
    pub fn at_least(&self) -> i32 {
        self.spec.at_least()
    }
}

/// A Secret to copy to the pipeline's namespace.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretCopy {
    /// Name of the copy.
    pub name: String,
    /// Its data; `None` while the original is missing, in which case the copy is left unchanged.
    pub data: Option<std::collections::BTreeMap<String, k8s_openapi::ByteString>>,
}

impl std::fmt::Debug for SecretCopy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SecretCopy").field("name", &self.name).finish_non_exhaustive()
    }
}
