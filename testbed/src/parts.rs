//! Postgres, Kafka and Redis together.

use ping_runtime::env;

use crate::{
    kafka::{Compiler, Kafka},
    postgres::Postgres,
    redis::Redis,
};

/// The data plane's dependencies. They stop when dropped.
#[derive(Debug)]
pub struct Parts {
    /// The event store.
    pub postgres: Postgres,
    /// The event log.
    pub kafka: Kafka,
    /// The cache.
    pub redis: Redis,
}

impl Parts {
    /// Starts all three concurrently.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Compiler::Quick).await
    }

    /// Starts all three concurrently with a choice of Kafka's compiler.
    pub async fn start_with(compiler: Compiler) -> anyhow::Result<Self> {
        let (kafka, postgres, redis) =
            tokio::try_join!(Kafka::start_with(compiler), Postgres::start(), Redis::start())?;
        Ok(Self { postgres, kafka, redis })
    }

    pub(crate) async fn start_detached(compiler: Compiler) -> anyhow::Result<Self> {
        let (kafka, postgres, redis) =
            tokio::try_join!(Kafka::start_detached(compiler), Postgres::start_detached(), Redis::start_detached())?;
        Ok(Self { postgres, kafka, redis })
    }

    /// The environment variables through which the data plane finds them.
    pub fn env(&self) -> [(&'static str, String); 3] {
        [
            (env::POSTGRES_URL, self.postgres.url()),
            (env::KAFKA_BROKERS, self.kafka.brokers()),
            (env::CACHE_URL, self.redis.url()),
        ]
    }
}
