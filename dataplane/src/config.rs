//! The command line of `pingd`; the only reader of the environment.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use ping_runtime::{env, telemetry::LogFormat};

use crate::{
    adapters::{
        kafka::{Haste, KafkaSecurity, KafkaSettings},
        redis::RedisSettings,
    },
    count::CountSettings,
    domain::{StatusRule, Threshold},
    ingest::IngestSettings,
    ports::Retention,
    rpc::StatusNames,
};

/// Counts pings: every acknowledged one exactly once.
#[derive(Debug, Parser)]
#[command(name = "pingd", version, max_term_width = 110)]
pub struct Pingd {
    /// What to run.
    #[command(subcommand)]
    pub program: Program,
    /// What every program takes.
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// The programs in this binary.
#[derive(Debug, Subcommand)]
pub enum Program {
    /// Everything in one process, without infrastructure: to try it, and to develop against.
    Dev(DevArgs),
    /// Takes pings and answers counts.
    Server(ServerArgs),
    /// Counts what the servers took: log → cache.
    Processor(ProcessorArgs),
    /// Brings schema and topics up to date, imports an existing `pings` table, and ends.
    Migrate(MigrateArgs),
}

/// What every program takes.
#[derive(Debug, Args)]
pub struct ProcessArgs {
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, env = env::ADMIN_LISTEN, default_value = "0.0.0.0:8081", global = true)]
    pub admin_listen: SocketAddr,
    /// Worker threads; 0: half of the cores.
    #[arg(long, env = env::THREADS, default_value_t = 0, global = true)]
    pub threads: usize,
    /// Seconds to finish what is under way after SIGTERM.
    #[arg(long, env = env::DRAIN_SECONDS, default_value_t = 20, global = true)]
    pub drain_seconds: u64,
    /// Log filter, e.g. "info" or "debug,rdkafka=warn".
    #[arg(long, env = env::LOG, default_value = "info", global = true)]
    pub log: String,
    /// auto, text or json.
    #[arg(long, env = env::LOG_FORMAT, default_value = "auto", global = true)]
    pub log_format: LogFormat,
}

impl ProcessArgs {
    /// Worker threads to start.
    #[must_use]
    pub fn worker_threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
            threads => threads,
        }
    }

    /// Time to finish what is under way.
    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

/// The embedded mode.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Address of the API.
    #[arg(long, env = env::LISTEN, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Networks of proxies that are believed when they say whom they call for (X-Forwarded-For), e.g. 10.0.0.0/8. An event
    /// without a source has the caller's address for one.
    #[arg(long, env = env::TRUSTED_PROXIES, value_delimiter = ',')]
    pub trusted_proxies: Vec<IpNet>,
    /// Keep nothing: every start begins at zero.
    #[arg(long, env = env::IN_MEMORY, num_args = 0..=1, default_value_t = false, default_missing_value = "true")]
    pub memory: bool,
    /// Folder for the database file; it survives kill -9.
    #[arg(long, default_value = ".pingpipeline", conflicts_with = "memory")]
    pub data: PathBuf,
    /// How it counts.
    #[command(flatten)]
    pub count: CountArgs,
    /// How long views are kept.
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// What sources are.
    #[command(flatten)]
    pub status: StatusArgs,
}

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Takes events, and answers nothing.
    Ingest,
    /// Answers, and takes no events: it has no lanes and never speaks to Kafka.
    Query,
    /// Both.
    All,
}

impl Role {
    /// Whether it takes events.
    #[must_use]
    pub fn takes_events(self) -> bool {
        self != Self::Query
    }

    /// Whether it answers.
    #[must_use]
    pub fn answers(self) -> bool {
        self != Self::Ingest
    }
}

/// The server.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Address of the API: gRPC, gRPC-Web and Connect.
    #[arg(long, env = env::LISTEN, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Networks of proxies that are believed when they say whom they call for (X-Forwarded-For), e.g. 10.0.0.0/8. An event
    /// without a source has the caller's address for one.
    #[arg(long, env = env::TRUSTED_PROXIES, value_delimiter = ',')]
    pub trusted_proxies: Vec<IpNet>,
    /// What it does: take events, answer questions, or all of it. Taking and answering scale apart.
    #[arg(long, env = env::ROLE, value_enum, default_value = "all")]
    pub role: Role,
    /// Write lanes: one is as fast as several on a fast disk.
    #[arg(long, env = env::LANES, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub lanes: u16,
    /// Minutes of per-minute counts that the processors keep in the cache.
    #[arg(long, env = env::WINDOW_MINUTES, default_value_t = 60, value_parser = clap::value_parser!(u32).range(2..=10_080))]
    pub window_minutes: u32,
    /// How long views are kept.
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// What sources are.
    #[command(flatten)]
    pub status: StatusArgs,
    /// Postgres.
    #[command(flatten)]
    pub postgres: PostgresArgs,
    /// Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// The cache.
    #[command(flatten)]
    pub cache: CacheArgs,
}

impl ServerArgs {
    /// Settings of the write path.
    #[must_use]
    pub fn ingest(&self) -> IngestSettings {
        IngestSettings { lanes: usize::from(self.lanes), ..IngestSettings::default() }
    }
}

/// The processor.
#[derive(Debug, Args)]
pub struct ProcessorArgs {
    /// How it counts.
    #[command(flatten)]
    pub count: CountArgs,
    /// How long views are kept.
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// What sources are.
    #[command(flatten)]
    pub status: StatusArgs,
    /// Postgres.
    #[command(flatten)]
    pub postgres: PostgresArgs,
    /// Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// The cache.
    #[command(flatten)]
    pub cache: CacheArgs,
}

/// Limits of counting.
#[derive(Clone, Debug, Args)]
pub struct CountArgs {
    /// A flush holds at most about this many records.
    #[arg(long, env = env::FLUSH_RECORDS, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub flush_records: u32,
    /// A flush waits at most this long after its first record, in milliseconds; an idle cache gets it at once.
    #[arg(long, env = env::FLUSH_INTERVAL_MS, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub flush_interval_ms: u64,
    /// Minutes that per-minute counts stay in the cache.
    #[arg(long = "window", env = env::WINDOW_MINUTES, default_value_t = 60, value_parser = clap::value_parser!(u32).range(2..=10_080))]
    pub window_minutes: u32,
}

impl CountArgs {
    /// Settings of the count path.
    #[must_use]
    pub fn settings(&self) -> CountSettings {
        CountSettings {
            flush_records: self.flush_records as usize,
            flush_interval: Duration::from_millis(self.flush_interval_ms),
            window: i64::from(self.window_minutes),
            ..CountSettings::default()
        }
    }
}

/// What sources are.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// A source with so many events of a kind is not, for ever: kind=count.
    #[arg(long, env = env::STATUS_NOT_WHEN, default_value = "bounced=1")]
    pub status_not_when: Threshold,
    /// A source with so many events of a kind is, unless it is not: kind=count.
    #[arg(long, env = env::STATUS_YES_WHEN, default_value = "delivered=1000")]
    pub status_yes_when: Threshold,
    /// What that is called: not, yes, unknown.
    #[arg(long, env = env::STATUS_NAMES, value_delimiter = ',',
        default_values = ["not catch-all", "catch-all", "unknown"])]
    pub status_names: Vec<String>,
    /// Sources whose status is kept at hand, at most; the others are looked up.
    #[arg(long, env = env::STATUS_SOURCES, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub status_sources: u32,
}

impl StatusArgs {
    /// The rule.
    #[must_use]
    pub fn rule(&self) -> StatusRule {
        StatusRule { not_when: self.status_not_when.clone(), yes_when: self.status_yes_when.clone() }
    }

    /// The words for it.
    ///
    /// # Errors
    /// When there are not three.
    pub fn names(&self) -> anyhow::Result<StatusNames> {
        let [not, yes, unknown] = self.status_names.as_slice() else {
            anyhow::bail!("--status-names takes three names separated by commas, for not, yes and unknown");
        };
        Ok(StatusNames { not: not.clone(), yes: yes.clone(), unknown: unknown.clone() })
    }
}

/// How long the views per source keep what they hold.
#[derive(Clone, Debug, Args)]
pub struct RetentionArgs {
    /// Days that five-minute windows per source are kept, today not counted.
    #[arg(long, env = env::WINDOW_RETENTION_DAYS, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=3_650))]
    pub window_retention_days: u16,
    /// Days that daily counts per source are kept; 0: for ever.
    #[arg(long, env = env::DAY_RETENTION_DAYS, default_value_t = 0)]
    pub day_retention_days: u16,
}

impl RetentionArgs {
    /// As the views take it.
    #[must_use]
    pub fn retention(&self) -> Retention {
        let days = (self.day_retention_days > 0).then(|| i64::from(self.day_retention_days));
        Retention { windows: i64::from(self.window_retention_days), days }
    }
}

/// `pingd migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Postgres.
    #[command(flatten)]
    pub postgres: PostgresArgs,
    /// Create the topics, too, when they are absent.
    #[arg(long)]
    pub create_topics: bool,
    /// Partitions of a topic that is created.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub partitions: u32,
    /// Replicas of a topic that is created.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub replication: u32,
    /// Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

/// Postgres.
#[derive(Debug, Args)]
pub struct PostgresArgs {
    /// postgres://user:password@host:port/database
    #[arg(long, env = env::POSTGRES_URL, hide_env_values = true)]
    pub postgres_url: String,
}

/// Kafka.
#[derive(Debug, Args)]
pub struct KafkaArgs {
    /// host:port[,host:port…]
    #[arg(long, env = env::KAFKA_BROKERS)]
    pub kafka_brokers: String,
    /// Topic that carries the events.
    #[arg(long, env = env::KAFKA_TOPIC, default_value = "pings")]
    pub kafka_topic: String,
    /// Topic for records that can't be counted.
    #[arg(long, env = env::KAFKA_DEAD_LETTER_TOPIC, default_value = "pings-dead-letter")]
    pub kafka_dead_letter_topic: String,
    /// Topic that is told of every minute that is over, e.g. ping-minutes: compacted, key = minute. None: nobody is told.
    #[arg(long, env = env::KAFKA_MINUTES_TOPIC)]
    pub kafka_minutes_topic: Option<String>,
    /// Consumer group of the processors.
    #[arg(long, env = env::KAFKA_GROUP, default_value = "ping-processor")]
    pub kafka_group: String,
    /// plaintext, ssl, sasl_plaintext or sasl_ssl.
    #[arg(long, env = env::KAFKA_SECURITY_PROTOCOL, default_value = "plaintext",
        value_parser = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"])]
    pub kafka_security_protocol: String,
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    #[arg(long, env = env::KAFKA_SASL_MECHANISM, requires = "kafka_sasl_username")]
    pub kafka_sasl_mechanism: Option<String>,
    /// User name for SASL.
    #[arg(long, env = env::KAFKA_SASL_USERNAME, requires = "kafka_sasl_password")]
    pub kafka_sasl_username: Option<String>,
    /// Password for SASL.
    #[arg(long, env = env::KAFKA_SASL_PASSWORD, hide_env_values = true)]
    pub kafka_sasl_password: Option<String>,
    /// PEM file of the CA that signed the brokers' certificates.
    #[arg(long, env = env::KAFKA_CA_FILE)]
    pub kafka_ca_file: Option<PathBuf>,
    /// PEM file of this client's certificate.
    #[arg(long, env = env::KAFKA_CERT_FILE, requires = "kafka_key_file")]
    pub kafka_cert_file: Option<PathBuf>,
    /// PEM file of this client's key.
    #[arg(long, env = env::KAFKA_KEY_FILE, requires = "kafka_cert_file")]
    pub kafka_key_file: Option<PathBuf>,
}

impl KafkaArgs {
    /// What the adapter needs.
    #[must_use]
    pub fn settings(&self) -> KafkaSettings {
        KafkaSettings {
            brokers: self.kafka_brokers.clone(),
            topic: self.kafka_topic.clone(),
            dead_letter_topic: self.kafka_dead_letter_topic.clone(),
            minutes_topic: self.kafka_minutes_topic.clone(),
            group: self.kafka_group.clone(),
            haste: Haste::AtOnce,
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

/// The cache.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// redis://host:port, or rediss:// for TLS.
    #[arg(long, env = env::CACHE_URL)]
    pub cache_url: String,
    /// Password of the cache.
    #[arg(long, env = env::CACHE_PASSWORD, hide_env_values = true)]
    pub cache_password: Option<String>,
}

impl CacheArgs {
    /// What the adapter needs.
    #[must_use]
    pub fn settings(&self) -> RedisSettings {
        RedisSettings { password: self.cache_password.clone(), ..RedisSettings::new(&self.cache_url) }
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
}
