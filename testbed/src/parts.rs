//! The three parts together.

use ping_runtime::env;

use crate::{
    kafka::{Compiler, Kafka},
    postgres::Postgres,
    redis::Redis,
};

/// What the data plane stands on. Gone when dropped.
#[derive(Debug)]
pub struct Parts {
    /// Decides what happened.
    pub postgres: Postgres,
    /// Carries it.
    pub kafka: Kafka,
    /// In the place of the cache.
    pub redis: Redis,
}

impl Parts {
    /// Starts all three at the same time.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Compiler::Quick).await
    }

    /// The same with a choice of the broker's compiler.
    pub async fn start_with(compiler: Compiler) -> anyhow::Result<Self> {
        let (kafka, postgres, redis) =
            tokio::try_join!(Kafka::start_with(compiler), Postgres::start(), Redis::start())?;
        Ok(Self { postgres, kafka, redis })
    }

    pub(crate) async fn start_to_leave(compiler: Compiler) -> anyhow::Result<Self> {
        let (kafka, postgres, redis) =
            tokio::try_join!(Kafka::start_to_leave(compiler), Postgres::start_to_leave(), Redis::start_to_leave())?;
        Ok(Self { postgres, kafka, redis })
    }

    /// The environment that leads the data plane to them: names and values.
    pub fn env(&self) -> [(&'static str, String); 3] {
        [
            (env::POSTGRES_URL, self.postgres.url()),
            (env::KAFKA_BROKERS, self.kafka.brokers()),
            (env::CACHE_URL, self.redis.url()),
        ]
    }
}
