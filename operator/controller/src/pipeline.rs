//! A validated pipeline: all defaults are set and all references resolved. Later steps do not read the raw spec.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use ping_api::{
    crd::{
        DeletionPolicy, Durability, MonitoringSpec, NetworkPolicySpec, SecretKey,
        access::{ClientCertificates, Permission},
        cache::{DragonflySpec, ExternalCache},
        events::EventsSpec,
        kafka::{ExternalKafka, KafkaCluster, SaslMechanism},
        postgres::{ExternalPostgres, PostgresCluster},
        sources::SourcesSpec,
        tls::{ConnectionTls, TlsMode},
        tracing::TracingSpec,
        workload::{ProcessorSpec, ServerSpec},
    },
    names::Names,
    roles::Role,
};

use crate::{cluster_state::Platform, issued::IssuedSecret};

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
    /// The restore that Postgres was started from; `None` if it was started empty, and until its cluster exists.
    pub restore: Option<Restore>,
    /// Kafka, its topics and how to connect.
    pub kafka: Kafka,
    /// The cache of counters.
    pub cache: Cache,
    /// Server Deployments: one for both roles, or one per role.
    pub servers: Vec<ServerDeployment>,
    /// Roles of the previous layout. Their Deployments stay until those in `servers` are available.
    pub retiring: Vec<Role>,
    /// How the ports of servers and processors are protected.
    pub security: Security,
    /// Settings of the processors, including the image.
    pub processor: ProcessorSpec,
    /// Retention of events.
    pub events: EventsSpec,
    /// Status rule, retention and limits of sources.
    pub sources: SourcesSpec,
    /// Network policies.
    pub network_policy: NetworkPolicySpec,
    /// What the operator's administrator set.
    pub platform: Platform,
    /// Metrics for Prometheus.
    pub monitoring: MonitoringSpec,
    /// Traces of calls.
    pub tracing: TracingSpec,
    /// Fingerprints of the Secrets that pods read at startup.
    pub checksums: Checksums,
    /// `replicas` of the processor Deployment; `None` if an autoscaler owns the field.
    pub processor_replicas: Option<i32>,
    /// Secrets to copy from Kafka's namespace to the pipeline's.
    pub copies: Vec<SecretCopy>,
    /// Secrets with keys, certificates and passwords that the operator issues.
    pub issued: Vec<IssuedSecret>,
    /// Settings that could lose acknowledged events, one clause each. Always empty for `Exact`.
    pub durability_risks: Vec<String>,
}

/// A restore of Postgres from a backup. A cluster that outlives its PingPipeline keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    /// UID of the cluster.
    pub id: String,
    /// When the cluster was created.
    pub at: Time,
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
    /// Name of its KafkaTopic object, if the operator creates it.
    pub object: String,
    /// False for a topic of someone else in a shared Kafka, which is used but neither created nor changed nor deleted.
    pub own: bool,
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

/// How connections to a component are encrypted. The certificate and the host name of the server are always verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Secret key with the CA certificates, in the pipeline's namespace; `None` means the public CAs.
    pub ca: Option<SecretKey>,
    /// Name of the Secret with the client certificate (`tls.crt`, `tls.key`), for a component that asks for one.
    pub client_certificate: Option<String>,
}

impl Tls {
    /// The settings of an external component; `None` means plaintext.
    fn external(tls: &ConnectionTls) -> Option<Self> {
        let ConnectionTls { mode, ca, client_certificate } = tls.clone();
        (mode == TlsMode::VerifyFull).then_some(Self { ca, client_certificate })
    }

    /// Every Secret key that it reads.
    #[must_use]
    pub fn keys(&self) -> Vec<SecretKey> {
        let certificate = self
            .client_certificate
            .iter()
            .flat_map(|name| ["tls.crt", "tls.key"].map(|key| SecretKey { name: name.clone(), key: key.into() }));
        self.ca.iter().cloned().chain(certificate).collect()
    }
}

/// How the ports of servers and processors are protected.
#[derive(Clone, Debug, PartialEq)]
pub struct Security {
    /// Encryption of the ports; `None` means plaintext.
    pub tls: Option<PortTls>,
    /// Whether callers need credentials.
    pub authenticated: bool,
    /// What callers without credentials may do. Without authentication they may do everything.
    pub anonymous: Vec<Permission>,
    /// Whether there is a first token.
    pub first_token: bool,
    /// The Secret that pods mount: the access policies, the files that these name, and the CAs of callers; `None` if there is nothing in
    /// it.
    pub files: Option<IssuedSecret>,
    /// Ports from which servers fetch the keys of issuers.
    pub issuer_ports: std::collections::BTreeSet<i32>,
}

/// Encryption of the ports of servers and processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTls {
    /// Of servers, on both ports.
    pub server: PortCertificate,
    /// Of processors, on the admin port.
    pub processor: PortCertificate,
    /// Whether callers of the API present certificates; `None` if they are not asked for one.
    pub clients: Option<ClientCertificates>,
}

/// The certificate of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortCertificate {
    /// Name of its Secret (`tls.crt`, `tls.key`).
    pub secret: String,
    /// Secret key with the CA that clients have to trust; `None` means the public CAs.
    pub ca: Option<SecretKey>,
    /// A name that it covers.
    pub host: String,
}

/// With which user name and password a program logs in to the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheLogin {
    /// User name; `None` means the default user.
    pub username: Option<String>,
    /// Secret key that holds the password; `None` means none.
    pub password: Option<SecretKey>,
}

impl Cache {
    /// The login of `program`, which is `server` or `processor`.
    #[must_use]
    pub fn login(&self, names: &Names, program: &str) -> CacheLogin {
        match self {
            Self::Dragonfly(_) => CacheLogin {
                username: Some(program.into()),
                password: Some(SecretKey { name: names.cache_login(), key: program.into() }),
            },
            Self::External(external) => {
                CacheLogin { username: external.username.clone(), password: external.password.clone() }
            }
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
            Cache::Dragonfly(_) => format!("rediss://{}.{}.svc:6379", self.names.cache(), self.names.namespace),
            Cache::External(external) => external.url.clone(),
        }
    }

    /// How connections to the cache are encrypted; `None` means plaintext.
    #[must_use]
    pub fn cache_tls(&self) -> Option<Tls> {
        match &self.cache {
            Cache::Dragonfly(_) => Some(Tls { ca: Some(self.names.authority()), client_certificate: None }),
            Cache::External(external) => Tls::external(&external.tls),
        }
    }

    /// How connections to Postgres are encrypted; `None` means plaintext.
    #[must_use]
    pub fn postgres_tls(&self) -> Option<Tls> {
        match &self.postgres {
            Postgres::Cluster(_) => Some(Tls { ca: Some(self.names.postgres_ca()), client_certificate: None }),
            Postgres::External(external) => Tls::external(&external.tls),
        }
    }

    /// Secret key that holds the Postgres connection URI for queries, if it is another one than for writing.
    #[must_use]
    pub fn postgres_read_uri(&self) -> Option<&SecretKey> {
        match &self.postgres {
            Postgres::Cluster(_) => None,
            Postgres::External(external) => external.read_uri.as_ref(),
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
