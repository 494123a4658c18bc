//! One call for each ping.

use std::{sync::Arc, time::Instant};

use crate::when::now;
use ping_proto::{PingRequest, ping_service_client::PingServiceClient};
use tonic::{Code, Request, Status, transport::Channel};

use super::{Run, ids::Ids};
use crate::{client, exit::Exit, failure};

/// Sends pings one after the other, until there is nothing more to send.
pub(super) async fn send(run: Arc<Run>, mut client: PingServiceClient<Channel>, mut turn: u32) {
    let mut ids = Ids::new();
    while let Some(due) = run.schedule.next().await {
        let event_id = if run.plan.ids { ids.next(now()).to_string() } else { String::new() };
        let ping = PingRequest { event_id, source: run.plan.source(turn), ..PingRequest::default() };
        turn = turn.wrapping_add(1);
        run.tally.lock().sent += 1;
        deliver(&run, &mut client, ping, due).await;
    }
}

/// Sends one ping until it is acknowledged or refused, or makes no sense any more.
async fn deliver(run: &Run, client: &mut PingServiceClient<Channel>, ping: PingRequest, due: Instant) {
    let mut tried = 0;
    loop {
        let mut request = Request::new(ping.clone());
        request.set_timeout(run.plan.timeout);
        let Err(status) = client.ping(request).await else { return run.tally.lock().acknowledge(1, due) };
        let code = failure::code(&status);
        if failure::exit(&status) == Exit::Refused {
            return run.tally.lock().refuse(1, code);
        }
        run.tally.lock().err(1, code);
        if tried >= run.plan.retries || !may_repeat(run.plan.ids, &status) {
            return;
        }
        tokio::time::sleep(client::pause(tried, &status)).await;
        tried += 1;
        run.tally.lock().retries += 1;
    }
}

/// A ping without an id may be sent again only when it was surely not recorded.
fn may_repeat(has_id: bool, status: &Status) -> bool {
    if has_id { client::unsettled(status) } else { status.code() == Code::ResourceExhausted }
}
