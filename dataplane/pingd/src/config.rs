//! The command line of `pingd`. Each setting also has an environment name from `ping_runtime::env`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ping_embedded::DevArgs;
use ping_runtime::env;
use ping_services::{
    PortSecurityArgs, SecurityArgs, TraceArgs,
    args::{CountArgs, NameLimitArgs, ProcessArgs, RetentionArgs, StatusArgs, TransportArgs},
};

use crate::{delay::DelayArgs, man::ManArgs};
use ping_ingest::IngestSettings;
use ping_kafka::{FetchProfile, KafkaSecurity, KafkaSettings};
use ping_postgres::{ClientCertificate, PostgresOptions, PostgresStore, PostgresTls, SslMode};
use ping_redis::RedisSettings;

/// Counts events: each acknowledged event exactly once
#[derive(Debug, Parser)]
#[command(name = "pingd", version, max_term_width = 110)]
pub(crate) struct Pingd {
    /// The program to run.
    #[command(subcommand)]
    pub(crate) program: Program,
    /// Settings of every program.
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

/// The programs in this binary.
#[derive(Debug, Subcommand)]
pub(crate) enum Program {
    /// Runs server and processor in one process, without infrastructure: for trying it out and for development
    Dev(DevArgs),
    /// Runs the API server (ingest and queries)
    Server(ServerArgs),
    /// Consumes events from Kafka and updates the cache
    Processor(ProcessorArgs),
    /// Migrates the schema and topics, imports an existing `pings` table, then exits
    Migrate(MigrateArgs),
    /// Prints the records that are counted nowhere, with the reason, as lines of JSON
    DeadLetters(DeadLettersArgs),
    /// Forwards connections with additional latency: for `kubectl pingpipeline drill delay`
    Delay(DelayArgs),
    /// Writes manual pages into a folder, then exits
    Man(ManArgs),
}

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// accept events only
    Ingest,
    /// answer queries only: no write lanes, no connection to Kafka
    Query,
    /// accept events and answer queries
    All,
}

impl Role {
    /// Whether the server accepts events.
    #[must_use]
    pub(crate) fn accepts_events(self) -> bool {
        self != Self::Query
    }

    /// Whether the server answers queries.
    #[must_use]
    pub(crate) fn answers_queries(self) -> bool {
        self != Self::Ingest
    }
}

/// Settings of `pingd server`.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Address of the API: gRPC, gRPC-Web and Connect
    #[arg(long, env = env::LISTEN, default_value = "0.0.0.0:8080")]
    pub(crate) listen: SocketAddr,
    /// Limits of connections and requests.
    #[command(flatten)]
    pub(crate) transport: TransportArgs,
    /// Limits of names.
    #[command(flatten)]
    pub(crate) names: NameLimitArgs,
    /// TLS and access.
    #[command(flatten)]
    pub(crate) security: SecurityArgs,
    /// Role of this server; ingestion and queries scale independently
    #[arg(long, env = env::ROLE, value_enum, default_value = "all")]
    pub(crate) role: Role,
    /// Concurrent write lanes per server (1 is enough on fast disks)
    #[arg(long, env = env::LANES, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) lanes: u16,
    /// Minutes for which the cache keeps per-minute counts; must match the processors' --window
    #[arg(long, env = env::WINDOW_MINUTES, default_value_t = 60, value_parser = clap::value_parser!(u32).range(2..=10_080))]
    pub(crate) window_minutes: u32,
    /// Retention of the views.
    #[command(flatten)]
    pub(crate) retention: RetentionArgs,
    /// The status rule.
    #[command(flatten)]
    pub(crate) status: StatusArgs,
    /// Postgres.
    #[command(flatten)]
    pub(crate) postgres: PostgresArgs,
    /// URL of Postgres for queries, with a user who may only read. It names the primary: a standby is refused [default: that of
    /// --postgres-url]
    #[arg(long, env = env::POSTGRES_READ_URL, hide_env_values = true)]
    pub(crate) postgres_read_url: Option<String>,
    /// Kafka.
    #[command(flatten)]
    pub(crate) kafka: KafkaArgs,
    /// The cache.
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// Traces.
    #[command(flatten)]
    pub(crate) traces: TraceArgs,
}

impl ServerArgs {
    /// Settings of the write path.
    #[must_use]
    pub(crate) fn ingest(&self) -> IngestSettings {
        IngestSettings { lanes: usize::from(self.lanes), ..IngestSettings::default() }
    }
}

/// Settings of `pingd processor`.
#[derive(Debug, Args)]
pub(crate) struct ProcessorArgs {
    /// TLS and access of the admin port.
    #[command(flatten)]
    pub(crate) security: PortSecurityArgs,
    /// Settings of the projections.
    #[command(flatten)]
    pub(crate) count: CountArgs,
    /// ID of the restore that the database was started from: the views that came with the backup are rebuilt once. Unset: it was not
    /// restored, so a topic that lacks what the views have counted was created again
    #[arg(long, env = env::RESTORE_ID, value_name = "ID")]
    pub(crate) restore_id: Option<String>,
    /// Retention of the views.
    #[command(flatten)]
    pub(crate) retention: RetentionArgs,
    /// The status rule.
    #[command(flatten)]
    pub(crate) status: StatusArgs,
    /// Postgres.
    #[command(flatten)]
    pub(crate) postgres: PostgresArgs,
    /// Kafka.
    #[command(flatten)]
    pub(crate) kafka: KafkaArgs,
    /// The cache.
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// Traces.
    #[command(flatten)]
    pub(crate) traces: TraceArgs,
}

/// Settings of `pingd migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Postgres.
    #[command(flatten)]
    pub(crate) postgres: PostgresArgs,
    /// Also create missing topics
    #[arg(long)]
    pub(crate) create_topics: bool,
    /// Partitions of a created topic
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) partitions: u32,
    /// Replicas of a created topic
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) replication: u32,
    /// Kafka.
    #[command(flatten)]
    pub(crate) kafka: KafkaArgs,
}

/// Settings of `pingd dead-letters`.
#[derive(Debug, Args)]
pub(crate) struct DeadLettersArgs {
    /// Kafka.
    #[command(flatten)]
    pub(crate) kafka: KafkaArgs,
}

/// The connection to Postgres.
#[derive(Clone, Debug, Args)]
pub(crate) struct PostgresArgs {
    /// URL of Postgres: postgres://user:password@host:port/database
    #[arg(long, env = env::POSTGRES_URL, hide_env_values = true)]
    pub(crate) postgres_url: String,
    /// Encryption: disable, require (the server is not verified) or verify-full
    /// [default: verify-full with --postgres-root-cert; otherwise only loopback is allowed]
    #[arg(long, env = env::POSTGRES_SSLMODE, value_name = "MODE")]
    pub(crate) postgres_sslmode: Option<SslMode>,
    /// PEM file with the CA of the server's certificate; trusted besides the public CAs
    #[arg(long, env = env::POSTGRES_ROOT_CERT, value_name = "FILE")]
    pub(crate) postgres_root_cert: Option<PathBuf>,
    /// PEM file with this client's certificate
    #[arg(long, env = env::POSTGRES_CLIENT_CERT, value_name = "FILE", requires = "postgres_client_key")]
    pub(crate) postgres_client_cert: Option<PathBuf>,
    /// PEM file with this client's key
    #[arg(long, env = env::POSTGRES_CLIENT_KEY, value_name = "FILE", requires = "postgres_client_cert")]
    pub(crate) postgres_client_key: Option<PathBuf>,
}

impl PostgresArgs {
    /// A store that connects at its first use.
    ///
    /// # Errors
    /// When the URL is not valid, or the connection would be in plaintext although that was not requested.
    pub(crate) fn store(&self) -> anyhow::Result<PostgresStore> {
        self.store_at(&self.postgres_url)
    }

    /// Like [`Self::store`], at `url`.
    pub(crate) fn store_at(&self, url: &str) -> anyhow::Result<PostgresStore> {
        let client = self.postgres_client_cert.clone().zip(self.postgres_client_key.clone());
        let tls = PostgresTls {
            mode: self.postgres_sslmode,
            root_cert: self.postgres_root_cert.clone(),
            client: client.map(|(cert, key)| ClientCertificate { cert, key }),
        };
        Ok(PostgresStore::new(url, &PostgresOptions { tls, ..PostgresOptions::default() })?)
    }
}

/// Topics and connection of Kafka.
#[derive(Debug, Args)]
pub(crate) struct KafkaArgs {
    /// Kafka brokers: host:port[,host:port…]
    #[arg(long, env = env::KAFKA_BROKERS)]
    pub(crate) kafka_brokers: String,
    /// Topic that carries the events
    #[arg(long, env = env::KAFKA_TOPIC, default_value = "pings")]
    pub(crate) kafka_topic: String,
    /// Topic for records that cannot be decoded
    #[arg(long, env = env::KAFKA_DEAD_LETTER_TOPIC, default_value = "pings-dead-letter")]
    pub(crate) kafka_dead_letter_topic: String,
    /// Topic for per-minute summaries (compacted, keyed by minute), e.g. ping-minutes. Unset: disabled
    #[arg(long, env = env::KAFKA_MINUTES_TOPIC)]
    pub(crate) kafka_minutes_topic: Option<String>,
    /// Consumer group of the processors
    #[arg(long, env = env::KAFKA_GROUP, default_value = "ping-processor")]
    pub(crate) kafka_group: String,
    /// Security protocol: plaintext, ssl, sasl_plaintext or sasl_ssl
    #[arg(long, env = env::KAFKA_SECURITY_PROTOCOL, default_value = "plaintext",
        value_parser = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"])]
    pub(crate) kafka_security_protocol: String,
    /// SASL mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
    #[arg(long, env = env::KAFKA_SASL_MECHANISM, requires = "kafka_sasl_username")]
    pub(crate) kafka_sasl_mechanism: Option<String>,
    /// SASL user name
    #[arg(long, env = env::KAFKA_SASL_USERNAME, requires = "kafka_sasl_password")]
    pub(crate) kafka_sasl_username: Option<String>,
    /// SASL password
    #[arg(long, env = env::KAFKA_SASL_PASSWORD, hide_env_values = true)]
    pub(crate) kafka_sasl_password: Option<String>,
    /// PEM file with the CA of the brokers' certificates
    #[arg(long, env = env::KAFKA_CA_FILE)]
    pub(crate) kafka_ca_file: Option<PathBuf>,
    /// PEM file with this client's certificate
    #[arg(long, env = env::KAFKA_CERT_FILE, requires = "kafka_key_file")]
    pub(crate) kafka_cert_file: Option<PathBuf>,
    /// PEM file with this client's key
    #[arg(long, env = env::KAFKA_KEY_FILE, requires = "kafka_cert_file")]
    pub(crate) kafka_key_file: Option<PathBuf>,
}

impl KafkaArgs {
    /// Converts the flags.
    #[must_use]
    pub(crate) fn settings(&self) -> KafkaSettings {
        KafkaSettings {
            brokers: self.kafka_brokers.clone(),
            topic: self.kafka_topic.clone(),
            dead_letter_topic: self.kafka_dead_letter_topic.clone(),
            minutes_topic: self.kafka_minutes_topic.clone(),
            group: self.kafka_group.clone(),
            profile: FetchProfile::LowLatency,
            read_traces: false,
            security: KafkaSecurity {
                protocol: Some(self.kafka_security_protocol.clone()),
                sasl_mechanism: self.kafka_sasl_mechanism.clone(),
                sasl_username: self.kafka_sasl_username.clone(),
                sasl_password: self.kafka_sasl_password.clone(),
                ca_file: self.kafka_ca_file.clone(),
                cert_file: self.kafka_cert_file.clone(),
                key_file: self.kafka_key_file.clone(),
            },
        }
    }
}

/// The connection to the cache.
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// URL of the cache: redis://host:port, or rediss:// for TLS
    #[arg(long, env = env::CACHE_URL)]
    pub(crate) cache_url: String,
    /// User name in the cache's access control list
    #[arg(long, env = env::CACHE_USERNAME)]
    pub(crate) cache_username: Option<String>,
    /// Password of the cache
    #[arg(long, env = env::CACHE_PASSWORD, hide_env_values = true, conflicts_with = "cache_password_file")]
    pub(crate) cache_password: Option<String>,
    /// File with the password of the cache
    #[arg(long, env = env::CACHE_PASSWORD_FILE, value_name = "FILE")]
    pub(crate) cache_password_file: Option<PathBuf>,
    /// PEM file with the CA of the cache's certificate [default: the CAs of the system]
    #[arg(long, env = env::CACHE_CA_FILE, value_name = "FILE")]
    pub(crate) cache_ca_file: Option<PathBuf>,
    /// PEM file with this client's certificate
    #[arg(long, env = env::CACHE_CERT_FILE, value_name = "FILE", requires = "cache_key_file")]
    pub(crate) cache_cert_file: Option<PathBuf>,
    /// PEM file with this client's key
    #[arg(long, env = env::CACHE_KEY_FILE, value_name = "FILE", requires = "cache_cert_file")]
    pub(crate) cache_key_file: Option<PathBuf>,
}

impl CacheArgs {
    /// Converts the flags.
    #[must_use]
    pub(crate) fn settings(&self) -> RedisSettings {
        let client = self.cache_cert_file.clone().zip(self.cache_key_file.clone());
        RedisSettings {
            username: self.cache_username.clone(),
            password: self.cache_password.clone(),
            password_file: self.cache_password_file.clone(),
            ca_file: self.cache_ca_file.clone(),
            client: client.map(|(cert, key)| ping_redis::ClientCertificate { cert, key }),
            ..RedisSettings::new(&self.cache_url)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Pingd::command().debug_assert();
    }

    #[test]
    fn the_reference_of_flags_is_current() {
        let introduction = "<!-- Written by `make reference`. -->\n\nA flag takes precedence over its environment variable. Embedded programs \
                            have the settings of `pingd dev`. [Limits](limits.md) says what happens beyond the limits of a server.";
        let page = ping_testbed::reference::flags(Pingd::command(), introduction);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/pingd.md");
        ping_testbed::reference::is_current(path.as_ref(), &page).unwrap();
    }
}
