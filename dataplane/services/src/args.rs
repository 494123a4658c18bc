//! Command-line settings shared by several programs. Each also has an environment name from `ping_runtime::env`.

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use ipnet::IpNet;
use ping_core::{Retention, StatusRule, Threshold};
use ping_projections::CountSettings;
use ping_quota::NameLimits;
use ping_rpc::StatusLabels;
use ping_runtime::{env, telemetry::LogFormat};
use ping_transport::{TransportSettings, TrustedProxies};

/// Settings of every program.
#[derive(Debug, Args)]
pub struct ProcessArgs {
    /// Address of /healthz, /readyz and /metrics [default: 0.0.0.0:8081; `dev`: 127.0.0.1:8081]
    #[arg(long, env = env::ADMIN_LISTEN, global = true)]
    pub admin_listen: Option<SocketAddr>,
    /// Worker threads; 0 means half of the cores
    #[arg(long, env = env::THREADS, default_value_t = 0, global = true)]
    pub threads: usize,
    /// Seconds to drain in-flight work after SIGTERM
    #[arg(long, env = env::DRAIN_SECONDS, default_value_t = 20, global = true)]
    pub drain_seconds: u64,
    /// Log filter, e.g. "info" or "debug,rdkafka=warn"
    #[arg(long, env = env::LOG, default_value = "info", global = true)]
    pub log: String,
    /// Log format: auto, text or json
    #[arg(long, env = env::LOG_FORMAT, default_value = "auto", global = true)]
    pub log_format: LogFormat,
}

impl ProcessArgs {
    /// Address of the admin port in a pod: all interfaces, so that probes and scrapes reach it.
    #[must_use]
    pub fn admin_listen(&self) -> SocketAddr {
        self.admin_listen.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 8081)))
    }

    /// Address of the admin port on a developer's machine: loopback only.
    #[must_use]
    pub fn admin_listen_on_loopback(&self) -> SocketAddr {
        self.admin_listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8081)))
    }

    /// Number of worker threads to start, at least one.
    #[must_use]
    pub fn worker_threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
            threads => threads,
        }
    }

    /// Maximum time to drain after SIGTERM.
    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

/// Limits of connections and requests. The defaults fit a container with 256 MiB.
#[derive(Clone, Debug, Args)]
pub struct TransportArgs {
    /// CIDRs of proxies whose X-Forwarded-For is trusted, e.g. 10.0.0.0/8. Events without a source use the caller's address
    #[arg(long, env = env::TRUSTED_PROXIES, value_delimiter = ',')]
    pub trusted_proxies: Vec<IpNet>,
    /// Bytes that all requests together may hold: bodies, decoded messages, events that wait to be committed
    #[arg(long, env = env::MAX_REQUEST_MEMORY, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(16 << 20..=1 << 36))]
    pub max_request_memory: u64,
    /// Maximum number of open connections
    #[arg(long, env = env::MAX_CONNECTIONS, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Maximum number of open connections from one address that is not a trusted proxy
    #[arg(long, env = env::MAX_CONNECTIONS_PER_ADDRESS, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections_per_address: u32,
    /// Maximum number of concurrent HTTP/2 streams per connection
    #[arg(long, env = env::MAX_STREAMS_PER_CONNECTION, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_streams_per_connection: u32,
    /// Seconds for the first request of a connection to arrive
    #[arg(long, env = env::HEADER_TIMEOUT_SECONDS, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub header_timeout_seconds: u64,
    /// Seconds after which an idle connection or stream is closed
    #[arg(long, env = env::IDLE_TIMEOUT_SECONDS, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub idle_timeout_seconds: u64,
    /// Seconds for a peer to accept more of a response, or to answer an HTTP/2 ping
    #[arg(long, env = env::PEER_TIMEOUT_SECONDS, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub peer_timeout_seconds: u64,
}

impl TransportArgs {
    /// Converts the flags.
    #[must_use]
    pub fn settings(&self) -> TransportSettings {
        TransportSettings {
            // At most 64 GiB, which a 64-bit machine can address.
            memory_bytes: usize::try_from(self.max_request_memory).unwrap_or(usize::MAX),
            connections: self.max_connections as usize,
            connections_per_address: self.max_connections_per_address as usize,
            streams_per_connection: self.max_streams_per_connection,
            header_timeout: Duration::from_secs(self.header_timeout_seconds),
            idle_timeout: Duration::from_secs(self.idle_timeout_seconds),
            peer_timeout: Duration::from_secs(self.peer_timeout_seconds),
        }
    }

    /// Proxies whose `X-Forwarded-For` is trusted.
    #[must_use]
    pub fn proxies(&self) -> TrustedProxies {
        TrustedProxies::new(self.trusted_proxies.clone())
    }
}

/// Settings of the projections.
#[derive(Clone, Debug, Args)]
pub struct CountArgs {
    /// Maximum number of records in one flush of the counters (approximate)
    #[arg(long, env = env::FLUSH_RECORDS, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub flush_records: u32,
    /// Maximum bytes of events in memory for one flush of the views (approximate); the next one fills while one is written
    #[arg(long, env = env::FLUSH_BYTES, default_value_t = 32 << 20, value_parser = clap::value_parser!(u64).range(64 << 10..=1 << 32))]
    pub flush_bytes: u64,
    /// Maximum milliseconds between a record's arrival and its flush; an idle cache is updated at once
    #[arg(long, env = env::FLUSH_INTERVAL_MS, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub flush_interval_ms: u64,
    /// Minutes for which the cache keeps per-minute counts
    #[arg(long = "window", env = env::WINDOW_MINUTES, default_value_t = 60, value_parser = clap::value_parser!(u32).range(2..=10_080))]
    pub window_minutes: u32,
}

impl CountArgs {
    /// Converts the flags.
    #[must_use]
    pub fn settings(&self) -> CountSettings {
        CountSettings {
            flush_records: self.flush_records as usize,
            // At most 4 GiB, which a 64-bit machine can address.
            flush_bytes: usize::try_from(self.flush_bytes).unwrap_or(usize::MAX),
            flush_interval: Duration::from_millis(self.flush_interval_ms),
            window: i64::from(self.window_minutes),
            ..CountSettings::default()
        }
    }
}

/// The rule that classifies sources. Servers and processors must use the same one.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Give a source the negative status once it has at least COUNT events of KIND that are not revoked, e.g. failed=1
    #[arg(long, env = env::STATUS_NEGATIVE_WHEN, value_name = "KIND=COUNT", default_value = "failed=1")]
    pub status_negative_when: Threshold,
    /// Give a source the positive status once it has at least COUNT events of KIND, unless it is negative
    #[arg(long, env = env::STATUS_POSITIVE_WHEN, value_name = "KIND=COUNT", default_value = "succeeded=1000")]
    pub status_positive_when: Threshold,
    /// Labels returned for the negative, positive and unknown statuses
    #[arg(long, env = env::STATUS_LABELS, value_delimiter = ',', value_name = "NEGATIVE,POSITIVE,UNKNOWN",
        default_values = ["negative", "positive", "unknown"])]
    pub status_labels: Vec<String>,
    /// Maximum number of statuses cached; others are read from Postgres
    #[arg(long, env = env::STATUS_SOURCES, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub status_sources: u32,
}

impl StatusArgs {
    /// The rule.
    #[must_use]
    pub fn rule(&self) -> StatusRule {
        StatusRule {
            negative_when: self.status_negative_when.clone(),
            positive_when: self.status_positive_when.clone(),
        }
    }

    /// The labels of the three statuses.
    ///
    /// # Errors
    /// When there are not exactly three.
    pub fn labels(&self) -> anyhow::Result<StatusLabels> {
        let [negative, positive, unknown] = self.status_labels.as_slice() else {
            anyhow::bail!(
                "--status-labels has {} labels; write three, separated by commas: negative, positive, unknown",
                self.status_labels.len()
            );
        };
        Ok(StatusLabels { negative: negative.clone(), positive: positive.clone(), unknown: unknown.clone() })
    }
}

/// Limits of names that hold for all callers.
#[derive(Clone, Debug, Args)]
pub struct NameLimitArgs {
    /// Number of sources from which on events of new ones are refused; 0 sets no limit
    #[arg(long, env = env::MAX_SOURCES, default_value_t = 100_000_000)]
    pub max_sources: u64,
    /// Names of kinds that may be new per day (UTC), of all callers together; 0 sets no limit
    #[arg(long, env = env::NEW_KIND_NAMES_PER_DAY, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub new_kind_names_per_day: u32,
}

impl NameLimitArgs {
    /// Converts the flags.
    #[must_use]
    pub fn limits(&self) -> NameLimits {
        NameLimits { sources: self.max_sources, kind_names_per_day: u64::from(self.new_kind_names_per_day) }
    }
}

/// Retention of events and of the views per source.
#[derive(Clone, Debug, Args)]
pub struct RetentionArgs {
    /// Days to keep five-minute windows per source, not counting today
    #[arg(long, env = env::WINDOW_RETENTION_DAYS, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=3_650))]
    pub window_retention_days: u16,
    /// Days to keep daily counts per source; 0 keeps them indefinitely
    #[arg(long, env = env::DAY_RETENTION_DAYS, default_value_t = 0)]
    pub day_retention_days: u16,
    /// Days to keep the rows of events whose ids are version 7 UUIDs, not counting today; counts stay. 0 keeps all rows. Servers and
    /// processors need the same value
    #[arg(long, env = env::EVENT_RETENTION_DAYS, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=3_650))]
    pub event_retention_days: u16,
}

impl RetentionArgs {
    /// Converts the flags.
    #[must_use]
    pub fn retention(&self) -> Retention {
        let days = (self.day_retention_days > 0).then(|| i64::from(self.day_retention_days));
        Retention { windows: i64::from(self.window_retention_days), days }
    }

    /// Days for which events are kept; `None` keeps all of them.
    #[must_use]
    pub fn event_days(&self) -> Option<i64> {
        (self.event_retention_days > 0).then(|| i64::from(self.event_retention_days))
    }
}
