//! Forwards librdkafka's log to `tracing`.

use rdkafka::{ClientContext, config::RDKafkaLogLevel, error::KafkaError};

/// A client that only logs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Logging;

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self::error(&error, reason);
    }
}

impl rdkafka::consumer::ConsumerContext for Logging {}

pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    use RDKafkaLogLevel::{Alert, Critical, Emerg, Error, Warning};
    match (level, facility) {
        // One line for each setting that librdkafka calls experimental.
        (_, "CONFWARN") => tracing::debug!(target: "librdkafka", facility, "{message}"),
        // A broker is unavailable; repeated every half minute.
        (_, "FAIL") => tracing::info!(target: "librdkafka", facility, "{message}"),
        (Emerg | Alert | Critical | Error, _) => tracing::warn!(target: "librdkafka", facility, "{message}"),
        (Warning, _) => tracing::info!(target: "librdkafka", facility, "{message}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// Errors that librdkafka reports outside of calls. Those that matter are also returned by the call that they affect.
pub(super) fn error(error: &KafkaError, reason: &str) {
    tracing::debug!(target: "librdkafka", %error, "{reason}");
}
