//! The log in Kafka. A record's value is an `Event` of `event.proto`, with its writer and number in it; its key is the source,
//! its timestamp the time of the commit.

mod bounds;
mod log_consumer;
mod log_producer;
mod logging;
mod minutes;
mod producer;
mod record;
mod settings;
mod topics;

pub use bounds::KafkaBounds;
pub use log_consumer::KafkaConsumer;
pub use log_producer::KafkaProducer;
pub use minutes::KafkaMinutes;
pub use settings::{FetchProfile, KafkaSecurity, KafkaSettings};
pub use topics::ensure_topics;

use std::{error::Error, time::Duration};

use ping_ports::LogError;

/// Longest time for one answer to a question about topics and offsets.
const ANSWER: Duration = Duration::from_secs(5);

fn failed(error: impl Error + Send + Sync + 'static) -> LogError {
    LogError(Box::new(error))
}

/// Runs a call that blocks, out of the way of the runtime.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(call).await.map_err(failed)?
}
