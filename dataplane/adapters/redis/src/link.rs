//! One connection, made when it is needed and made anew after any error.
//!
//! Not `redis::aio::ConnectionManager`: that one keeps a connection whose peer went silent until TCP gives it up after many
//! minutes, and never recovers from a refusal while connecting (`LOADING`, a wrong password, a replica).

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, RedisResult, ServerErrorKind,
    aio::MultiplexedConnection, io::tcp::TcpSettings,
};

use super::{RedisSettings, layout::KEYS, script::Script};
use ping_ports::CacheError;

/// Longest time to connect in.
const CONNECT: Duration = Duration::from_secs(2);

/// A connection that is there, or being made; everybody waits for the same one.
type Connecting = Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>;

/// The way to the server.
pub(super) struct Link {
    client: Client,
    config: AsyncConnectionConfig,
    current: Mutex<Option<Connecting>>,
    broken: AtomicU64,
}

impl Link {
    pub(super) fn new(settings: &RedisSettings) -> RedisResult<Self> {
        let info = settings.url.as_str().into_connection_info()?;
        let mut redis = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(password) = &settings.password {
            redis = redis.set_password(password);
        }
        let tcp = TcpSettings::default().set_nodelay(true);
        let client = Client::open(info.set_redis_settings(redis).set_tcp_settings(tcp))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(settings.response_timeout));
        Ok(Self { client, config, current: Mutex::new(None), broken: AtomicU64::new(0) })
    }

    /// How many connections broke. While it is the same, whoever answers is the server that answered before.
    pub(super) fn broken(&self) -> u64 {
        self.broken.load(Ordering::Acquire)
    }

    /// One command.
    pub(super) async fn command<T: FromRedisValue + Send>(&self, command: &Cmd) -> Result<T, CacheError> {
        self.ask(|mut connection| async move { command.query_async(&mut connection).await }).await
    }

    /// Several commands in one step and one round trip.
    ///
    /// `Pipeline::atomic` would do, if its bookkeeping did not underflow when the server refuses `MULTI` (redis 1.8.1).
    pub(super) async fn transaction<T: FromRedisValue + Send>(&self, commands: &[Cmd]) -> Result<T, CacheError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("MULTI").ignore();
        for command in commands {
            pipeline.add_command(command.clone()).ignore();
        }
        pipeline.cmd("EXEC");
        let answer = self.ask(|mut connection| async move { pipeline.query_async(&mut connection).await });
        answer.await.map(|(answers,): (T,)| answers)
    }

    /// A script with the counters' keys and `arguments`.
    pub(super) async fn script<T: FromRedisValue + Send>(
        &self,
        script: &Script,
        arguments: &(impl Fn(&mut Cmd) + Sync),
    ) -> Result<T, CacheError> {
        self.script_on(script, &KEYS, arguments).await
    }

    /// A script with `keys` and `arguments`. Its text travels only when the server does not know it.
    pub(super) async fn script_on<T: FromRedisValue + Send>(
        &self,
        script: &Script,
        keys: &[impl AsRef<str> + Sync],
        arguments: &(impl Fn(&mut Cmd) + Sync),
    ) -> Result<T, CacheError> {
        self.ask(|mut connection| async move {
            let unknown = ErrorKind::Server(ServerErrorKind::NoScript);
            match script.call(keys, arguments).query_async(&mut connection).await {
                Err(error) if error.kind() == unknown => {
                    script.introduce(keys, arguments).query_async(&mut connection).await
                }
                result => result,
            }
        })
        .await
    }

    async fn ask<T, A, F>(&self, ask: A) -> Result<T, CacheError>
    where
        A: FnOnce(MultiplexedConnection) -> F + Send,
        F: Future<Output = RedisResult<T>> + Send,
    {
        let connecting = self.connecting();
        let result = match connecting.clone().await {
            Ok(connection) => ask(connection).await,
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.forget(&connecting);
        }
        result.map_err(|error| CacheError(Box::new(error)))
    }

    fn connecting(&self) -> Connecting {
        let connect = || {
            let (client, config) = (self.client.clone(), self.config.clone());
            async move { client.get_multiplexed_async_connection_with_config(&config).await }.boxed().shared()
        };
        self.current.lock().get_or_insert_with(connect).clone()
    }

    fn forget(&self, failed: &Connecting) {
        let mut current = self.current.lock();
        if current.as_ref().is_some_and(|current| current.ptr_eq(failed)) {
            self.broken.fetch_add(1, Ordering::Release);
            *current = None;
        }
    }
}
