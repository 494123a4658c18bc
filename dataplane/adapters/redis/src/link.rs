//! One connection, opened at the first command and replaced after any error.
//!
//! Not `redis::aio::ConnectionManager`: it keeps a connection to a silent peer until TCP gives up after many minutes, and it never
//! recovers when the server rejects the client while connecting (`LOADING`, a wrong password, a replica).

use std::{
    future::Future,
    time::{Duration, Instant},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, aio::MultiplexedConnection};

use super::{
    connector::{CONNECT_TIMEOUT, Connector},
    failure::{ConnectError, Silent, command_failed},
    layout::KEYS,
    script::Script,
    settings::{RedisSettings, RedisSettingsError},
};
use ping_ports::CacheError;

/// How long commands fail at once after the server has not answered one in time. Then one command tries again.
const SILENCE_PAUSE: Duration = Duration::from_secs(1);

/// A connection that is open or being opened. All callers share it.
type SharedConnection = Shared<BoxFuture<'static, Result<MultiplexedConnection, ConnectError>>>;

/// A client of one server.
pub(super) struct Link {
    connector: Connector,
    current: Mutex<Option<SharedConnection>>,
    /// When the server last refused to run a script because it was full.
    refused: Mutex<Option<Instant>>,
    /// While the server does not answer: when a command tries again. The others would only wait for it, and their callers can ask
    /// Postgres.
    silent_until: Mutex<Option<Instant>>,
    /// How long a command may take with a new connection.
    longest_call: Duration,
}

impl Link {
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, RedisSettingsError> {
        let connector = Connector::new(settings)?;
        Ok(Self {
            connector,
            current: Mutex::new(None),
            refused: Mutex::new(None),
            silent_until: Mutex::new(None),
            longest_call: CONNECT_TIMEOUT + settings.response_timeout,
        })
    }

    /// How long ago the server last refused to run a script because it was full; `None` if it has run one since.
    pub(super) fn refused(&self) -> Option<Duration> {
        self.refused.lock().map(|refused| refused.elapsed())
    }

    /// Runs one command.
    pub(super) async fn command<T: FromRedisValue + Send>(&self, command: &Cmd) -> Result<T, CacheError> {
        self.run(|mut connection| async move { command.query_async(&mut connection).await }).await
    }

    /// Runs several commands atomically, in one round trip.
    ///
    /// Not `Pipeline::atomic`: its bookkeeping underflows when the server rejects `MULTI` (redis 1.8.1).
    pub(super) async fn transaction<T: FromRedisValue + Send>(&self, commands: &[Cmd]) -> Result<T, CacheError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("MULTI").ignore();
        for command in commands {
            pipeline.add_command(command.clone()).ignore();
        }
        pipeline.cmd("EXEC");
        let answers = self.run(|mut connection| async move { pipeline.query_async(&mut connection).await });
        answers.await.map(|(answers,): (T,)| answers)
    }

    /// Runs a script on the counters' keys.
    pub(super) async fn script<T: FromRedisValue + Send>(
        &self,
        script: &Script,
        arguments: &(impl Fn(&mut Cmd) + Sync),
    ) -> Result<T, CacheError> {
        self.script_on(script, &KEYS, arguments).await
    }

    /// Runs a script on `keys`. Its text is sent only if the server does not know it.
    pub(super) async fn script_on<T: FromRedisValue + Send>(
        &self,
        script: &Script,
        keys: &[impl AsRef<str> + Sync],
        arguments: &(impl Fn(&mut Cmd) + Sync),
    ) -> Result<T, CacheError> {
        let result = self.run(|mut connection| async move {
            let unknown_script = ErrorKind::Server(ServerErrorKind::NoScript);
            match script.call(keys, arguments).query_async(&mut connection).await {
                Err(error) if error.kind() == unknown_script => {
                    script.call_with_text(keys, arguments).query_async(&mut connection).await
                }
                result => result,
            }
        });
        let result = result.await;
        match &result {
            Ok(_) => *self.refused.lock() = None,
            Err(CacheError::Full(_)) => *self.refused.lock() = Some(Instant::now()),
            Err(CacheError::Unavailable(_)) => {}
        }
        result
    }

    async fn run<T, C, F>(&self, call: C) -> Result<T, CacheError>
    where
        C: FnOnce(MultiplexedConnection) -> F + Send,
        F: Future<Output = RedisResult<T>> + Send,
    {
        if !self.may_try() {
            return Err(CacheError::Unavailable(Silent.into()));
        }
        let connection = self.connection();
        let (result, silent) = match connection.clone().await {
            Ok(connection) => match call(connection).await {
                Ok(value) => (Ok(value), false),
                Err(error) => {
                    let timed_out = error.is_timeout();
                    (Err(command_failed(error)), timed_out)
                }
            },
            Err(error) => {
                let timed_out = error.timed_out;
                (Err(CacheError::Unavailable(error.into())), timed_out)
            }
        };
        *self.silent_until.lock() = silent.then(|| Instant::now() + SILENCE_PAUSE);
        if result.is_err() {
            self.discard(&connection);
        }
        result
    }

    /// Whether a command is worth trying: the server answers, or it is this command that finds out.
    fn may_try(&self) -> bool {
        let mut silent_until = self.silent_until.lock();
        match *silent_until {
            Some(until) if Instant::now() < until => false,
            // Others wait until this command has an answer.
            Some(_) => {
                *silent_until = Some(Instant::now() + self.longest_call);
                true
            }
            None => true,
        }
    }

    fn connection(&self) -> SharedConnection {
        let connect = || self.connector.clone().connect().boxed().shared();
        self.current.lock().get_or_insert_with(connect).clone()
    }

    fn discard(&self, failed: &SharedConnection) {
        let mut current = self.current.lock();
        if current.as_ref().is_some_and(|current| current.ptr_eq(failed)) {
            *current = None;
        }
    }
}
