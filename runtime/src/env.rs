//! The environment variables that the operator sets on a workload and the data plane reads.
//!
//! Each name is defined only here; `pingd --help` documents its value. A command-line flag takes precedence over its variable.

/// Address of the API port: gRPC, gRPC-Web and Connect. Default `0.0.0.0:8080`.
pub const LISTEN: &str = "PING_LISTEN";
/// CIDRs of proxies whose `X-Forwarded-For` is trusted, separated by commas. Default: none.
pub const TRUSTED_PROXIES: &str = "PING_TRUSTED_PROXIES";
/// Bytes that all requests of a server may hold together. Default 67108864 (64 MiB).
pub const MAX_REQUEST_MEMORY: &str = "PING_MAX_REQUEST_MEMORY";
/// Maximum number of open connections. Default 1000.
pub const MAX_CONNECTIONS: &str = "PING_MAX_CONNECTIONS";
/// Maximum number of open connections from one address that is not a trusted proxy. Default 500.
pub const MAX_CONNECTIONS_PER_ADDRESS: &str = "PING_MAX_CONNECTIONS_PER_ADDRESS";
/// Maximum number of concurrent HTTP/2 streams per connection. Default 100.
pub const MAX_STREAMS_PER_CONNECTION: &str = "PING_MAX_STREAMS_PER_CONNECTION";
/// Seconds for the first request of a connection to arrive. Default 10.
pub const HEADER_TIMEOUT_SECONDS: &str = "PING_HEADER_TIMEOUT_SECONDS";
/// Seconds after which an idle connection or stream is closed. Default 300.
pub const IDLE_TIMEOUT_SECONDS: &str = "PING_IDLE_TIMEOUT_SECONDS";
/// Seconds for a peer to accept more of a response, or to answer an HTTP/2 ping. Default 20.
pub const PEER_TIMEOUT_SECONDS: &str = "PING_PEER_TIMEOUT_SECONDS";
/// Address of the admin port: `/healthz`, `/readyz`, `/metrics`. Default `0.0.0.0:8081`.
pub const ADMIN_LISTEN: &str = "PING_ADMIN_LISTEN";
/// PEM file of the server's certificate chain, for TLS on the API and the admin port. Default: none, which is plaintext.
pub const TLS_CERT: &str = "PING_TLS_CERT";
/// PEM file of the key of `PING_TLS_CERT`.
pub const TLS_KEY: &str = "PING_TLS_KEY";
/// PEM file of the CAs that sign client certificates. Default: none, so clients are not asked for one.
pub const TLS_CLIENT_CA: &str = "PING_TLS_CLIENT_CA";
/// `true` refuses clients without a certificate. Default `false`.
pub const TLS_CLIENT_REQUIRED: &str = "PING_TLS_CLIENT_REQUIRED";
/// YAML file of the access policy. Default: none, so everyone may do everything.
pub const ACCESS_POLICY: &str = "PING_ACCESS_POLICY";
/// `true` allows a server without access policy to listen on other addresses than loopback. Default `false`.
pub const INSECURE: &str = "PING_INSECURE";
/// Who may use reflection: `open`, `authenticated` or `off`. Default `authenticated` with an access policy, otherwise `open`.
pub const REFLECTION: &str = "PING_REFLECTION";
/// Origins of pages, other than the server's own, that may call from a browser, separated by commas. Default: none.
pub const CORS_ORIGINS: &str = "PING_CORS_ORIGINS";
/// Connection URI of Postgres: `postgres://user:password@host:port/database`.
pub const POSTGRES_URL: &str = "PING_POSTGRES_URL";
/// Connection URI of Postgres for queries, with a user who may only read. Default: that of `PING_POSTGRES_URL`.
pub const POSTGRES_READ_URL: &str = "PING_POSTGRES_READ_URL";
/// `disable`, `require` or `verify-full`. Default: `verify-full` with a root certificate; otherwise the connection stays on loopback.
pub const POSTGRES_SSLMODE: &str = "PING_POSTGRES_SSLMODE";
/// PEM file of the CA that signed the certificate of Postgres. Read again for each connection.
pub const POSTGRES_ROOT_CERT: &str = "PING_POSTGRES_ROOT_CERT";
/// PEM file of this client's certificate for Postgres. Read again for each connection.
pub const POSTGRES_CLIENT_CERT: &str = "PING_POSTGRES_CLIENT_CERT";
/// PEM file of this client's key for Postgres. Read again for each connection.
pub const POSTGRES_CLIENT_KEY: &str = "PING_POSTGRES_CLIENT_KEY";
/// `host:port[,host:port…]` of Kafka.
pub const KAFKA_BROKERS: &str = "PING_KAFKA_BROKERS";
/// Topic that carries the events. Default `pings`.
pub const KAFKA_TOPIC: &str = "PING_KAFKA_TOPIC";
/// Topic for records that cannot be counted. Default `pings-dead-letter`.
pub const KAFKA_DEAD_LETTER_TOPIC: &str = "PING_KAFKA_DEAD_LETTER_TOPIC";
/// Topic for per-minute summaries (compacted, keyed by minute). Default: none, which disables them.
pub const KAFKA_MINUTES_TOPIC: &str = "PING_KAFKA_MINUTES_TOPIC";
/// Consumer group of the processors. The per-source views use the same name with the suffix `-views`. Default `ping-processor`.
pub const KAFKA_GROUP: &str = "PING_KAFKA_GROUP";
/// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`. Default `plaintext`.
pub const KAFKA_SECURITY_PROTOCOL: &str = "PING_KAFKA_SECURITY_PROTOCOL";
/// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`; with a `sasl_*` protocol only.
pub const KAFKA_SASL_MECHANISM: &str = "PING_KAFKA_SASL_MECHANISM";
/// SASL user name.
pub const KAFKA_SASL_USERNAME: &str = "PING_KAFKA_SASL_USERNAME";
/// SASL password.
pub const KAFKA_SASL_PASSWORD: &str = "PING_KAFKA_SASL_PASSWORD";
/// PEM file of the CA that signed the brokers' certificates.
pub const KAFKA_CA_FILE: &str = "PING_KAFKA_CA_FILE";
/// PEM file of this client's certificate (mutual TLS).
pub const KAFKA_CERT_FILE: &str = "PING_KAFKA_CERT_FILE";
/// PEM file of this client's key (mutual TLS).
pub const KAFKA_KEY_FILE: &str = "PING_KAFKA_KEY_FILE";
/// URL of the cache: `redis://host:port` or `rediss://…` for TLS.
pub const CACHE_URL: &str = "PING_CACHE_URL";
/// User name in the cache's access control list. Default: the cache's default user.
pub const CACHE_USERNAME: &str = "PING_CACHE_USERNAME";
/// Password of the cache, separate from the URL so that it can come from a Secret.
pub const CACHE_PASSWORD: &str = "PING_CACHE_PASSWORD";
/// File with the password of the cache. Read again for each connection.
pub const CACHE_PASSWORD_FILE: &str = "PING_CACHE_PASSWORD_FILE";
/// PEM file of the CA that signed the certificate of the cache. Read again for each connection.
pub const CACHE_CA_FILE: &str = "PING_CACHE_CA_FILE";
/// PEM file of this client's certificate for the cache. Read again for each connection.
pub const CACHE_CERT_FILE: &str = "PING_CACHE_CERT_FILE";
/// PEM file of this client's key for the cache. Read again for each connection.
pub const CACHE_KEY_FILE: &str = "PING_CACHE_KEY_FILE";
/// Maximum number of records per flush of the counters. Default 4000.
pub const FLUSH_RECORDS: &str = "PING_FLUSH_RECORDS";
/// Maximum memory of the events in a flush of the views, in bytes. Default 32 MiB.
pub const FLUSH_BYTES: &str = "PING_FLUSH_BYTES";
/// Maximum time from the first record of a flush until it is written, in milliseconds. Default 1000.
pub const FLUSH_INTERVAL_MS: &str = "PING_FLUSH_INTERVAL_MS";
/// Minutes of per-minute counts kept in the cache. Default 60.
pub const WINDOW_MINUTES: &str = "PING_WINDOW_MINUTES";
/// Days to keep five-minute windows per source. Default 7.
pub const WINDOW_RETENTION_DAYS: &str = "PING_WINDOW_RETENTION_DAYS";
/// Days to keep daily counts per source; 0 keeps them forever. Default 0.
pub const DAY_RETENTION_DAYS: &str = "PING_DAY_RETENTION_DAYS";
/// Days to keep the rows of events whose ids are version 7 UUIDs, not counting today; 0 keeps all rows. Default 0.
pub const EVENT_RETENTION_DAYS: &str = "PING_EVENT_RETENTION_DAYS";
/// ID of the restore that the database was started from. Default: none, if it was started empty.
pub const RESTORE_ID: &str = "PING_RESTORE_ID";
/// Number of sources from which on new ones are refused; 0 sets no limit. Default 100000000.
pub const MAX_SOURCES: &str = "PING_MAX_SOURCES";
/// New names of kinds per day (UTC); 0 sets no limit. Default 10000.
pub const NEW_KIND_NAMES_PER_DAY: &str = "PING_NEW_KIND_NAMES_PER_DAY";
/// Rule for a negative status, as `kind=count`: a source with at least `count` events of `kind` is negative until that is revoked. Default
/// `failed=1`.
pub const STATUS_NEGATIVE_WHEN: &str = "PING_STATUS_NEGATIVE_WHEN";
/// Rule for a positive status, as `kind=count`; it applies unless the negative rule matched. Default `succeeded=1000`.
pub const STATUS_POSITIVE_WHEN: &str = "PING_STATUS_POSITIVE_WHEN";
/// Labels of the negative, positive and unknown status, separated by commas. Default `negative,positive,unknown`.
pub const STATUS_LABELS: &str = "PING_STATUS_LABELS";
/// Maximum number of sources whose status is cached. Default 10000000.
pub const STATUS_SOURCES: &str = "PING_STATUS_SOURCES";
/// Role of a server: `ingest`, `query` or `all`. Default `all`.
pub const ROLE: &str = "PING_ROLE";
/// Concurrent write lanes per server. Default 1.
pub const LANES: &str = "PING_LANES";
/// Worker threads; 0 uses half of the cores. Default 0.
pub const THREADS: &str = "PING_THREADS";
/// Seconds to drain in-flight work after SIGTERM. Default 20.
pub const DRAIN_SECONDS: &str = "PING_DRAIN_SECONDS";
/// Log levels, one for everything and one per module: `info,rdkafka=warn`. Default `info`.
pub const LOG: &str = "PING_LOG";
/// `text` or `json`. Default `text` on a terminal, otherwise `json`.
pub const LOG_FORMAT: &str = "PING_LOG_FORMAT";
/// URL of the OpenTelemetry collector that receives traces, by OTLP over gRPC: `http://host:port` or `https://host:port`. Default: none, which
/// turns traces off. The names of this variable and the next ones are OpenTelemetry's.
pub const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Protocol of the collector: `grpc`, which is the default; others are not supported.
pub const OTLP_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
/// PEM file of the CA of the collector's certificate. Default: the CAs of the system.
pub const OTLP_CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
/// Which calls are traced: `always_on`, `always_off`, `traceidratio`, or one of them with the prefix `parentbased_`, which applies to calls
/// whose caller does not say. Default `parentbased_always_on`.
pub const TRACES_SAMPLER: &str = "OTEL_TRACES_SAMPLER";
/// Share of the calls that a sampler with `traceidratio` traces, from 0 to 1. Default 1.
pub const TRACES_SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
/// Attributes of all spans of a program: `name=value,name=value`. Default: none.
pub const OTEL_RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
/// `true` keeps all data of the embedded mode in memory. The name predates this project and is kept for its users.
pub const IN_MEMORY: &str = "INMEMORY";
/// Address of the server that `pingctl` talks to. Default `http://localhost:8080`. Set by users only, never by the operator.
pub const CTL_ADDR: &str = "PINGCTL_ADDR";
/// PEM file of the CAs of the server's certificate, for `pingctl`. Default: those of the system. Set by users only.
pub const CTL_CA: &str = "PINGCTL_CA";
/// Name that the server's certificate must cover, for `pingctl`. Default: the host of the address. Set by users only.
pub const CTL_TLS_SERVER_NAME: &str = "PINGCTL_TLS_SERVER_NAME";
/// PEM file of the client certificate of `pingctl`. Set by users only.
pub const CTL_CERT: &str = "PINGCTL_CERT";
/// PEM file of the key of `PINGCTL_CERT`. Set by users only.
pub const CTL_KEY: &str = "PINGCTL_KEY";
/// File with the bearer token of `pingctl`. Set by users only.
pub const CTL_TOKEN_FILE: &str = "PINGCTL_TOKEN_FILE";
/// File with the contexts of `pingctl`. Default: `pingctl/config.yaml` in the user's configuration folder. Set by users only.
pub const CTL_CONFIG: &str = "PINGCTL_CONFIG";
/// Context that `pingctl` uses. Default: the current one of its configuration, unless there is `PINGCTL_ADDR`. Set by users only.
pub const CTL_CONTEXT: &str = "PINGCTL_CONTEXT";
/// Address of the admin port that `pingctl verify` and `revoke` talk to. Default: the host of `PINGCTL_ADDR`, port 8081. Set by users only.
pub const CTL_ADMIN_ADDR: &str = "PINGCTL_ADMIN_ADDR";
