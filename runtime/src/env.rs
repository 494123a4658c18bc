//! The environment names that the operator sets on a workload and the data plane reads.
//!
//! Each name stands here once; `pingd --help` documents its value. A flag on the command line wins over its name here.

/// Address of the API port: gRPC, gRPC-Web and Connect. Default `0.0.0.0:8080`.
pub const LISTEN: &str = "PING_LISTEN";
/// Networks of proxies whose `X-Forwarded-For` is believed, as CIDR, separated by commas. Default: none.
pub const TRUSTED_PROXIES: &str = "PING_TRUSTED_PROXIES";
/// Address of the admin port: `/healthz`, `/readyz`, `/metrics`. Default `0.0.0.0:8081`.
pub const ADMIN_LISTEN: &str = "PING_ADMIN_LISTEN";
/// Connection URI of Postgres: `postgres://user:password@host:port/database`.
pub const POSTGRES_URL: &str = "PING_POSTGRES_URL";
/// `host:port[,host:port…]` of Kafka.
pub const KAFKA_BROKERS: &str = "PING_KAFKA_BROKERS";
/// Topic that carries the events. Default `pings`.
pub const KAFKA_TOPIC: &str = "PING_KAFKA_TOPIC";
/// Topic for records that cannot be counted. Default `pings-dead-letter`.
pub const KAFKA_DEAD_LETTER_TOPIC: &str = "PING_KAFKA_DEAD_LETTER_TOPIC";
/// Topic that is told of every minute that is over: compacted, the key is the minute. Default: none, nobody is told.
pub const KAFKA_MINUTES_TOPIC: &str = "PING_KAFKA_MINUTES_TOPIC";
/// Consumer group of the processors; the one of the views per source has `-views` behind it. Default `ping-processor`.
pub const KAFKA_GROUP: &str = "PING_KAFKA_GROUP";
/// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`. Default `plaintext`.
pub const KAFKA_SECURITY_PROTOCOL: &str = "PING_KAFKA_SECURITY_PROTOCOL";
/// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`; with a `sasl_*` protocol only.
pub const KAFKA_SASL_MECHANISM: &str = "PING_KAFKA_SASL_MECHANISM";
/// User name for SASL.
pub const KAFKA_SASL_USERNAME: &str = "PING_KAFKA_SASL_USERNAME";
/// Password for SASL.
pub const KAFKA_SASL_PASSWORD: &str = "PING_KAFKA_SASL_PASSWORD";
/// PEM file of the CA that signed the brokers' certificates.
pub const KAFKA_CA_FILE: &str = "PING_KAFKA_CA_FILE";
/// PEM file of this client's certificate (mutual TLS).
pub const KAFKA_CERT_FILE: &str = "PING_KAFKA_CERT_FILE";
/// PEM file of this client's key (mutual TLS).
pub const KAFKA_KEY_FILE: &str = "PING_KAFKA_KEY_FILE";
/// URL of the cache: `redis://host:port` or `rediss://…` for TLS.
pub const CACHE_URL: &str = "PING_CACHE_URL";
/// Password of the cache, kept out of the URL so that it can come from a Secret.
pub const CACHE_PASSWORD: &str = "PING_CACHE_PASSWORD";
/// A flush holds at most this many records. Default 1000.
pub const FLUSH_RECORDS: &str = "PING_FLUSH_RECORDS";
/// A flush waits at most this long after its first record, in milliseconds. Default 1000.
pub const FLUSH_INTERVAL_MS: &str = "PING_FLUSH_INTERVAL_MS";
/// How many minutes the cache keeps per-minute counts. Default 60.
pub const WINDOW_MINUTES: &str = "PING_WINDOW_MINUTES";
/// Days that five-minute windows per source are kept. Default 7.
pub const WINDOW_RETENTION_DAYS: &str = "PING_WINDOW_RETENTION_DAYS";
/// Days that daily counts per source are kept; 0: for ever. Default 0.
pub const DAY_RETENTION_DAYS: &str = "PING_DAY_RETENTION_DAYS";
/// Rule for a negative status, as `kind=count`: a source with at least `count` events of `kind` is negative, permanently. Default
/// `failed=1`.
pub const STATUS_NEGATIVE_WHEN: &str = "PING_STATUS_NEGATIVE_WHEN";
/// Rule for a positive status, as `kind=count`; it applies unless the negative rule matched. Default `succeeded=1000`.
pub const STATUS_POSITIVE_WHEN: &str = "PING_STATUS_POSITIVE_WHEN";
/// Labels of the negative, positive and unknown status, separated by commas. Default `negative,positive,unknown`.
pub const STATUS_LABELS: &str = "PING_STATUS_LABELS";
/// Sources whose status is kept in the cache, at most. Default 10000000.
pub const STATUS_SOURCES: &str = "PING_STATUS_SOURCES";
/// What a server does: `ingest`, `query` or `all`. Default `all`.
pub const ROLE: &str = "PING_ROLE";
/// Write lanes per server. Default 1.
pub const LANES: &str = "PING_LANES";
/// Worker threads; 0 lets the program choose (half of the cores). Default 0.
pub const THREADS: &str = "PING_THREADS";
/// Seconds a program may take to drain after SIGTERM. Default 20.
pub const DRAIN_SECONDS: &str = "PING_DRAIN_SECONDS";
/// Log filter as of `tracing`'s `EnvFilter`. Default `info`.
pub const LOG: &str = "PING_LOG";
/// `text` or `json`. Default `text` on a terminal, else `json`.
pub const LOG_FORMAT: &str = "PING_LOG_FORMAT";
/// `true`: the embedded mode keeps nothing on disk (the name existing users know).
pub const IN_MEMORY: &str = "INMEMORY";
/// Address of the server that `pingctl` talks to. Default `http://localhost:8080`. Nobody but people sets it.
pub const CTL_ADDR: &str = "PINGCTL_ADDR";
