//! Calls to the server: a deadline for each attempt, and retries with exponential back-off.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use ping_client::Client;
use ping_proto::{PingCountRequest, PingCountResponse, WatchRequest, WatchResponse};
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::{
    address::Address,
    exit::Exit,
    failure::{self, Failure},
    settings::Settings,
};

/// Delay before the first retry. It doubles with each retry; jitter adds up to the same again.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(50);
/// Longest delay before jitter.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Longest `retry-after` of a server that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(2);

/// A connection to a server.
pub(crate) struct Server {
    client: Client,
    address: String,
    timeout: Duration,
    retries: u32,
    /// What to do if the server does not accept the credentials.
    credentials_hint: String,
}

impl Server {
    /// The server of the command line. `timeout` is that of each attempt.
    ///
    /// # Errors
    /// When a file for TLS cannot be used.
    pub(crate) fn new(settings: &Settings, timeout: Duration) -> Result<Self, Failure> {
        Self::at(&settings.addr, settings, timeout)
    }

    /// The server at another address than that of the command line.
    ///
    /// # Errors
    /// When a file for TLS cannot be used.
    pub(crate) fn at(address: &Address, settings: &Settings, timeout: Duration) -> Result<Self, Failure> {
        let client = settings.client(address, timeout)?;
        let named = settings.context.as_ref().map_or_else(String::new, |name| format!(" (context {name})"));
        Ok(Self {
            client,
            address: format!("{address}{named}"),
            timeout,
            retries: settings.retries,
            credentials_hint: settings.credentials_hint(),
        })
    }

    /// Calls until the server answers, `retryable` rejects the error, or no retries are left. Returns the answer and the
    /// number of retries.
    pub(crate) async fn call<Q: Clone, A, F: Future<Output = Result<Response<A>, Status>>>(
        &self,
        message: &Q,
        retryable: impl FnMut(&Status) -> bool,
        method: impl Fn(&Client, Request<Q>) -> F,
    ) -> Result<(A, u32), Failure> {
        let attempt = || {
            let mut request = Request::new(message.clone());
            request.set_timeout(self.timeout);
            method(&self.client, request)
        };
        let mut retries = 0;
        let answer = attempt
            .retry(backoff(self.retries))
            .when(retryable)
            .notify(|_, _| retries += 1)
            .adjust(honour_retry_after)
            .await;
        match answer {
            Ok(answer) => Ok((answer.into_inner(), retries)),
            Err(status) => Err(self.failure(&status)),
        }
    }

    fn failure(&self, status: &Status) -> Failure {
        let failure = Failure::of_call(status, &self.address);
        let refused = status.code() == Code::Unauthenticated;
        if refused { failure.with_fix(&self.credentials_hint) } else { failure }
    }

    /// Queries the count.
    pub(crate) async fn ping_count(&self, request: &PingCountRequest) -> Result<PingCountResponse, Failure> {
        self.call(request, is_retryable_query, Client::ping_count).await.map(|(answer, _)| answer)
    }

    /// Watches the count. The timeout is that of each message: the server sends one at least every second.
    pub(crate) async fn watch(&self, request: WatchRequest) -> Result<Watch<'_>, Failure> {
        let begun = timeout(self.timeout, self.client.watch(request)).await;
        let messages = begun.unwrap_or_else(|_| Err(late())).map_err(|status| self.failure(&status))?;
        Ok(Watch { server: self, messages: messages.into_inner() })
    }
}

/// What a server says of changes, as they happen.
pub(crate) struct Watch<'a> {
    server: &'a Server,
    messages: Streaming<WatchResponse>,
}

impl Watch<'_> {
    /// Waits for the next message.
    pub(crate) async fn next(&mut self) -> Result<WatchResponse, Failure> {
        let message = timeout(self.server.timeout, self.messages.message()).await.unwrap_or_else(|_| Err(late()));
        let ended = || Status::unavailable("the server ended the stream, as it does when it stops");
        message.and_then(|message| message.ok_or_else(ended)).map_err(|status| self.server.failure(&status))
    }
}

fn late() -> Status {
    Status::deadline_exceeded("no message arrived in time; raise --timeout if the server is far away")
}

/// Whether repeating the call may help. Only for calls that are safe to repeat, such as an event with an id.
pub(crate) fn is_retryable(status: &Status) -> bool {
    failure::exit(status) == Exit::Unavailable
}

/// Whether repeating the query may help. A query that exceeded its deadline would exceed it again.
pub(crate) fn is_retryable_query(status: &Status) -> bool {
    is_retryable(status) && failure::code(status) != "deadline_exceeded"
}

/// The delays between attempts. Jitter keeps clients from retrying in step.
pub(crate) fn backoff(retries: u32) -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(MIN_RETRY_DELAY)
        .with_max_delay(MAX_RETRY_DELAY)
        .with_max_times(retries as usize)
        .with_jitter()
}

/// Extends a delay to the `retry-after` of the answer, up to `MAX_RETRY_AFTER`.
pub(crate) fn honour_retry_after(status: &Status, delay: Option<Duration>) -> Option<Duration> {
    let seconds = status.metadata().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = seconds.map_or(Duration::ZERO, Duration::from_secs).min(MAX_RETRY_AFTER);
    delay.map(|delay| delay.max(retry_after))
}

#[cfg(test)]
mod tests {
    use backon::BackoffBuilder;

    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let delays: Vec<_> = backoff(90).build().collect();
        assert!(delays.len() == 90 && delays[0] <= 2 * MIN_RETRY_DELAY);
        assert!(delays[89] >= MAX_RETRY_DELAY && delays[89] <= 2 * MAX_RETRY_DELAY);
    }

    #[test]
    fn a_delay_is_at_least_the_servers_retry_after() {
        let mut status = Status::unavailable("");
        assert_eq!(honour_retry_after(&status, Some(MIN_RETRY_DELAY)), Some(MIN_RETRY_DELAY));
        status.metadata_mut().insert("retry-after", "1".parse().unwrap());
        assert_eq!(honour_retry_after(&status, Some(MIN_RETRY_DELAY)), Some(Duration::from_secs(1)));
        status.metadata_mut().insert("retry-after", "3600".parse().unwrap());
        assert_eq!(honour_retry_after(&status, Some(MIN_RETRY_DELAY)), Some(MAX_RETRY_AFTER));
        assert_eq!(honour_retry_after(&status, None), None);
    }
}
