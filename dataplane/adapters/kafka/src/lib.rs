//! The log in Kafka. A record's value is an `Event` of `event.proto`, including its writer and number; its key is the source, its
//! timestamp the time of the commit.
//!
//! Clients, settings and the record format belong here. When to publish and where to start reading do not: that is in ping-ingest
//! and ping-projections.

mod bounds;
mod dead_letters;
mod log_consumer;
mod log_producer;
mod logging;
mod minutes;
mod producer;
mod record;
mod settings;
mod single_records;
mod topics;

pub use bounds::KafkaBounds;
pub use dead_letters::KafkaDeadLetters;
pub use log_consumer::KafkaConsumer;
pub use log_producer::KafkaProducer;
pub use minutes::KafkaMinutes;
pub use record::decode as decode_record;
pub use settings::{FetchProfile, KafkaSecurity, KafkaSettings};
pub use topics::ensure_topics;

use std::{error::Error, time::Duration};

use ping_ports::LogError;

/// Limit of one request about topics or offsets.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

fn failed(error: impl Error + Send + Sync + 'static) -> LogError {
    LogError(Box::new(error))
}

/// Runs a blocking call on a thread for such calls.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(call).await.map_err(failed)?
}
