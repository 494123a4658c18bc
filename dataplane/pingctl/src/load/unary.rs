//! One call per event.

use std::{sync::Arc, time::Instant};

use backon::Retryable;
use ping_client::Client;
use ping_proto::PingRequest;
use tonic::{Code, Request, Status};

use super::{
    run::Run,
    uuids::{UuidGenerator, unix_ms},
};
use crate::{client, exit::Exit, failure};

/// Sends events one after the other until the schedule ends. The first is of source number `index`, the next of the next.
pub(super) async fn send(run: Arc<Run>, client: Client, mut index: u32) {
    let mut uuids = UuidGenerator::new();
    while let Some(due) = run.schedule.next().await {
        let event_id = if run.config.ids { uuids.next(unix_ms()).to_string() } else { String::new() };
        let ping = PingRequest { event_id, source: run.config.source(index), ..PingRequest::default() };
        index = index.wrapping_add(1);
        run.stats.lock().sent += 1;
        deliver(&run, &client, ping, due).await;
    }
}

/// Sends one event until it is acknowledged or refused, or must not or cannot be retried.
async fn deliver(run: &Run, client: &Client, ping: PingRequest, due: Instant) {
    let attempt = || async {
        let mut request = Request::new(ping.clone());
        request.set_timeout(run.config.timeout);
        let call = run.history.as_ref().map(|history| history.begin(&ping.event_id));
        let answer = client.ping(request).await;
        if let Some(call) = call {
            call.end(&answer);
        }
        answer
    };
    let answer = attempt
        .retry(client::backoff(run.config.retries))
        .when(|status| may_repeat(run.config.ids, status))
        .notify(|status, _| {
            let mut stats = run.stats.lock();
            stats.fail(failure::code(status));
            stats.retries += 1;
        })
        .adjust(client::honour_retry_after)
        .await;
    let mut stats = run.stats.lock();
    match answer {
        Ok(_) => stats.acknowledge(1, due),
        Err(status) if failure::exit(&status) == Exit::Refused => stats.refuse(failure::code(&status)),
        Err(status) => stats.fail(failure::code(&status)),
    }
}

/// An event without an id may be sent again only if it was certainly not recorded.
fn may_repeat(has_id: bool, status: &Status) -> bool {
    if has_id { client::is_retryable(status) } else { status.code() == Code::ResourceExhausted }
}
