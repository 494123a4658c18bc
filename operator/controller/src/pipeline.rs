//! A pipeline that passed `validate`: every default filled in, every reference resolved, nothing left to doubt.

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

/// What is built, applied and judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Names of its objects.
    pub names: Names,
    /// Identity of the PingPipeline, for owner references.
    pub uid: String,
    /// What an acknowledgement is worth.
    pub durability: Durability,
    /// What happens to the data at deletion.
    pub deletion_policy: DeletionPolicy,
    /// Whether the pods are to go to zero.
    pub hibernate: bool,
    /// The store of record.
    pub postgres: Postgres,
    /// What carries the events.
    pub kafka: Kafka,
    /// What holds the counters.
    pub cache: Cache,
    /// The Deployments of servers: one for all they do, or one per role.
    pub servers: Vec<Servers>,
    /// Servers of the form before, which stay until those of `servers` are there.
    pub retiring: Vec<Role>,
    /// The processors; the image is filled in.
    pub processor: ProcessorSpec,
    /// What is known per source.
    pub sources: SourcesSpec,
    /// Who may talk to whom.
    pub network_policy: NetworkPolicySpec,
    /// Metrics for Prometheus.
    pub monitoring: MonitoringSpec,
    /// Fingerprints of the secrets that pods read at start.
    pub checksums: Checksums,
    /// How many pods the Deployment of processors is told to have; none where an autoscaler has taken the number over.
    pub processor_replicas: Option<i32>,
    /// Secrets to copy from Kafka's namespace into the pipeline's.
    pub copies: Vec<SecretCopy>,
    /// Settings by which acknowledged pings could be lost. Always empty for `Exact`.
    pub hazards: Vec<String>,
}

/// The store of record.
#[derive(Clone, Debug, PartialEq)]
pub enum Postgres {
    /// A CloudNativePG cluster.
    Cluster(Box<PostgresCluster>),
    /// One that exists already.
    External(ExternalPostgres),
}

/// What carries the events.
#[derive(Clone, Debug, PartialEq)]
pub struct Kafka {
    /// Who runs it.
    pub source: KafkaSource,
    /// The topic of the events.
    pub topic: Topic,
    /// The topic of records that cannot be counted.
    pub dead_letter: Topic,
    /// The topic of minutes that are over; none: nobody is told.
    pub minutes: Option<Topic>,
    /// How to get in; none while a referenced Kafka has not told its address.
    pub connection: Option<Connection>,
}

/// Who runs Kafka.
#[derive(Clone, Debug, PartialEq)]
pub enum KafkaSource {
    /// The pipeline has one of its own.
    Own(KafkaCluster),
    /// Strimzi runs one for somebody else.
    Reference(KafkaReference),
    /// It is outside of Strimzi.
    External(ExternalKafka),
}

/// A Kafka that Strimzi runs for somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaReference {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// How its listener asks for a login; none while unknown.
    pub authentication: Option<Authentication>,
    /// Whether it checks permissions.
    pub authorization: bool,
}

/// How a listener asks for a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Not at all.
    Nothing,
    /// By SCRAM-SHA-512.
    Scram,
    /// By client certificate.
    Certificate,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name in Kafka.
    pub name: String,
    /// Name of its KafkaTopic.
    pub object: String,
    /// Partitions.
    pub partitions: i32,
    /// Copies.
    pub replicas: i32,
    /// Copies that must have a record before it is accepted.
    pub min_in_sync_replicas: i32,
    /// What is kept in it.
    pub keeps: Keeps,
}

/// What a topic keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Every record, for so many milliseconds.
    All(i64),
    /// The last record of each key.
    Last,
}

impl Kafka {
    /// Its topics.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        [&self.topic, &self.dead_letter].into_iter().chain(&self.minutes)
    }
}

/// How to get into Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// `host:port[,host:port…]`.
    pub brokers: String,
    /// Encrypted?
    pub tls: bool,
    /// The CA of the brokers, in the pipeline's namespace; none means the public CAs.
    pub ca: Option<SecretKey>,
    /// How servers log in.
    pub server: Login,
    /// How processors log in.
    pub processor: Login,
}

/// A login at Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// None.
    Nothing,
    /// By name and password.
    Password {
        /// How the password is sent.
        mechanism: SaslMechanism,
        /// The name.
        username: String,
        /// The password.
        password: SecretKey,
    },
    /// By the client certificate in this Secret: `user.crt`, `user.key`.
    Certificate(String),
}

/// What holds the counters.
#[derive(Clone, Debug, PartialEq)]
pub enum Cache {
    /// A Dragonfly.
    Dragonfly(DragonflySpec),
    /// One that exists already.
    External(ExternalCache),
}

impl Cache {
    /// Its password, if it has one.
    #[must_use]
    pub fn password(&self) -> Option<&SecretKey> {
        match self {
            Self::Dragonfly(dragonfly) => dragonfly.password.as_ref(),
            Self::External(external) => external.password.as_ref(),
        }
    }
}

impl Pipeline {
    /// The servers that answer.
    #[must_use]
    pub fn answering(&self) -> Option<&Servers> {
        self.servers.iter().find(|servers| servers.role.answers())
    }

    /// The servers that take events.
    #[must_use]
    pub fn taking(&self) -> Option<&Servers> {
        self.servers.iter().find(|servers| servers.role.takes_events())
    }

    /// `redis://…` of the cache, without a password.
    #[must_use]
    pub fn cache_url(&self) -> String {
        match &self.cache {
            Cache::Dragonfly(_) => format!("redis://{}.{}.svc:6379", self.names.cache(), self.names.namespace),
            Cache::External(external) => external.url.clone(),
        }
    }

    /// Where the connection URI of Postgres is.
    #[must_use]
    pub fn postgres_uri(&self) -> SecretKey {
        match &self.postgres {
            Postgres::Cluster(_) => self.names.postgres_uri(),
            Postgres::External(external) => external.uri.clone(),
        }
    }

    /// How many processors are wanted at least.
    #[must_use]
    pub fn processors(&self) -> i32 {
        match (&self.processor.autoscaling, self.hibernate) {
            (_, true) => 0,
            (Some(scaling), false) => scaling.min_replicas,
            (None, false) => self.processor.replicas,
        }
    }
}

/// Fingerprints of the secrets that pods read at start; `pending` while one is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checksums {
    /// What processors read.
    pub processor: String,
    /// What the cache reads.
    pub cache: String,
}

/// A Deployment of servers.
#[derive(Clone, Debug, PartialEq)]
pub struct Servers {
    /// What they do.
    pub role: Role,
    /// What holds for them; the image is filled in.
    pub spec: ServerSpec,
    /// How many pods it is told to have; none where an autoscaler has taken the number over.
    pub replicas: Option<i32>,
    /// Fingerprint of the secrets that they read at start; `pending` while one is missing.
    pub checksum: String,
}

impl Servers {
    /// How many are wanted at least, unless all sleep.
    #[must_use]
    pub fn at_least(&self) -> i32 {
        self.spec.at_least()
    }
}

/// A Secret to copy into the pipeline's namespace.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretCopy {
    /// Name of the copy.
    pub name: String,
    /// Its content, in base64; none while the original is missing: then the copy stays as it is.
    pub data: Option<std::collections::BTreeMap<String, k8s_openapi::ByteString>>,
}

impl std::fmt::Debug for SecretCopy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SecretCopy").field("name", &self.name).finish_non_exhaustive()
    }
}
