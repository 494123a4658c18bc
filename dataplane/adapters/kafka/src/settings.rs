//! Connection settings.

use std::{fmt, path::PathBuf};

use rdkafka::ClientConfig;

/// The cluster, its topics and the consumer group.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// `host:port[,host:port…]`.
    pub brokers: String,
    /// Topic that carries the events.
    pub topic: String,
    /// Topic for records that cannot be counted.
    pub dead_letter_topic: String,
    /// Topic for per-minute summaries. `None`: no summaries are published.
    pub minutes_topic: Option<String>,
    /// Consumer group of the processors.
    pub group: String,
    /// How the group fetches records.
    pub profile: FetchProfile,
    /// Whether consumers read the span that published a record. To look at the headers of a record, librdkafka allocates a buffer, also if there
    /// are none: a sixth of the time in which a backlog is counted.
    pub read_traces: bool,
    /// Encryption and authentication.
    pub security: KafkaSecurity,
}

/// When the broker answers a fetch request. Each answer costs the broker more CPU than the records in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FetchProfile {
    /// As soon as there is a record.
    #[default]
    LowLatency,
    /// At 256 KiB of records or after 200 ms. The limit applies to the whole answer: with 256 KiB for each of six partitions the
    /// client occupied a core for 9 ms.
    Bulk,
}

impl FetchProfile {
    /// The settings of the consumer.
    pub(super) fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::LowLatency => &[("fetch.min.bytes", "1"), ("fetch.wait.max.ms", "500")],
            Self::Bulk => &[
                ("fetch.min.bytes", "262144"),
                ("fetch.wait.max.ms", "200"),
                ("fetch.max.bytes", "262144"),
                // librdkafka requires this to be at most `fetch.max.bytes`. Larger records are still read.
                ("message.max.bytes", "262144"),
            ],
        }
    }
}

/// Encryption and authentication. The default is plaintext.
#[derive(Clone, Default)]
pub struct KafkaSecurity {
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
    pub protocol: Option<String>,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: Option<String>,
    /// User name for SASL.
    pub sasl_username: Option<String>,
    /// Password for SASL.
    pub sasl_password: Option<String>,
    /// PEM file of the CA that signed the brokers' certificates.
    pub ca_file: Option<PathBuf>,
    /// PEM file of this client's certificate.
    pub cert_file: Option<PathBuf>,
    /// PEM file of this client's key.
    pub key_file: Option<PathBuf>,
}

impl fmt::Debug for KafkaSecurity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KafkaSecurity")
            .field("protocol", &self.protocol)
            .field("sasl_username", &self.sasl_username)
            .finish_non_exhaustive()
    }
}

impl KafkaSettings {
    /// The default topics and group, in plaintext.
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: "pings".into(),
            dead_letter_topic: "pings-dead-letter".into(),
            minutes_topic: None,
            group: "ping-processor".into(),
            profile: FetchProfile::LowLatency,
            read_traces: false,
            security: KafkaSecurity::default(),
        }
    }

    /// The settings that all clients share.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "ping")
            .set("socket.keepalive.enable", "true")
            // Reconnects within a second after a broker comes back.
            .set("reconnect.backoff.max.ms", "1000")
            // Notices new partitions within ten seconds.
            .set("topic.metadata.refresh.interval.ms", "10000")
            // An automatically created topic would have the wrong number of partitions.
            .set("allow.auto.create.topics", "false");
        let KafkaSecurity { protocol, sasl_mechanism, sasl_username, sasl_password, ca_file, cert_file, key_file } =
            &self.security;
        let path = |file: &Option<PathBuf>| file.as_ref().map(|file| file.to_string_lossy().into_owned());
        for (name, value) in [
            ("security.protocol", protocol.clone()),
            ("sasl.mechanism", sasl_mechanism.clone()),
            ("sasl.username", sasl_username.clone()),
            ("sasl.password", sasl_password.clone()),
            ("ssl.ca.location", path(ca_file)),
            ("ssl.certificate.location", path(cert_file)),
            ("ssl.key.location", path(key_file)),
        ] {
            if let Some(value) = value {
                config.set(name, value);
            }
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KafkaBounds;

    fn settings(protocol: &str, sasl_mechanism: Option<&str>) -> KafkaSettings {
        let sasl = |value: &str| sasl_mechanism.map(|_| value.to_owned());
        let security = KafkaSecurity {
            protocol: Some(protocol.into()),
            sasl_mechanism: sasl_mechanism.map(Into::into),
            sasl_username: sasl("ping"),
            sasl_password: sasl("secret"),
            ..KafkaSecurity::default()
        };
        KafkaSettings { security, ..KafkaSettings::new("127.0.0.1:1") }
    }

    /// librdkafka rejects settings that it was built without.
    #[tokio::test]
    async fn every_kind_of_security_is_built_in() {
        for protocol in ["plaintext", "ssl"] {
            KafkaBounds::new(&settings(protocol, None)).unwrap();
        }
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            for protocol in ["sasl_plaintext", "sasl_ssl"] {
                KafkaBounds::new(&settings(protocol, Some(mechanism))).unwrap();
            }
        }
        assert!(KafkaBounds::new(&settings("pigeon", None)).is_err());
    }

    #[test]
    fn passwords_are_not_printed() {
        assert!(!format!("{:?}", settings("sasl_ssl", Some("PLAIN"))).contains("secret"));
    }
}
