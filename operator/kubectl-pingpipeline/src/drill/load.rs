//! Sends events at a steady rate. Each has its own ID, and is retried with the same ID until a server acknowledges it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::ensure;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::server::{Minute, PingOutcome, Server};

/// Maximum number of concurrent requests.
const SENDERS: u16 = 8;
/// Delay between attempts.
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// Interval between checks whether an event was acknowledged.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Numbers of events by result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Events {
    /// Acknowledged events, each counted once regardless of retries.
    pub(crate) acknowledged: u64,
    /// Events without an acknowledgement before the timeout. Each may or may not have been counted.
    pub(crate) unknown: u64,
    /// Rejected events, with the last reason.
    pub(crate) rejected: Option<(u64, String)>,
    /// Longest time until an acknowledgement, including retries.
    pub(crate) slowest: Duration,
}

pub(crate) struct Load {
    senders: JoinSet<()>,
    stop: CancellationToken,
    events: Arc<Mutex<Events>>,
}

impl Load {
    /// Starts sending `rate` events per second with timestamps in `minute`. Gives up on an event after `timeout`.
    pub(crate) fn start(server: &Server, minute: Minute, rate: u16, timeout: Duration) -> Self {
        let (events, stop, mut senders) = (Arc::default(), CancellationToken::new(), JoinSet::new());
        for sender in 0..SENDERS.min(rate) {
            let (server, events, stop) = (server.clone(), Arc::clone(&events), stop.clone());
            let senders_count = SENDERS.min(rate);
            let pause = Duration::from_secs(1) * senders_count.into() / rate.into();
            senders.spawn(async move {
                // Each sender has its own numbers, so no two events have the same timestamp.
                for turn in 0_u64.. {
                    if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                        return;
                    }
                    let number = turn * u64::from(senders_count) + u64::from(sender);
                    send(&server, minute.timestamp_ms(number), timeout, &events).await;
                }
            });
        }
        Self { senders, stop, events }
    }

    /// Waits until an event was acknowledged or rejected.
    ///
    /// # Errors
    /// If that takes longer than `timeout`.
    pub(crate) async fn wait_for_events(&self, timeout: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        while *self.events.lock().unwrap_or_else(PoisonError::into_inner) == Events::default() {
            ensure!(started.elapsed() < timeout, "no event was acknowledged within {timeout:?}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Stops sending new events, and returns when all requests have ended.
    pub(crate) async fn finish(mut self) -> Events {
        self.stop.cancel();
        while self.senders.join_next().await.is_some() {}
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn send(server: &Server, timestamp_ms: i64, timeout: Duration, events: &Mutex<Events>) {
    let (id, started) = (Uuid::now_v7(), Instant::now());
    let outcome = loop {
        match server.ping(id, timestamp_ms).await {
            PingOutcome::Unknown if started.elapsed() < timeout => tokio::time::sleep(RETRY_DELAY).await,
            outcome => break outcome,
        }
    };
    let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
    match outcome {
        PingOutcome::Acknowledged => {
            events.acknowledged += 1;
            events.slowest = events.slowest.max(started.elapsed());
        }
        PingOutcome::Unknown => events.unknown += 1,
        PingOutcome::Rejected(why) => {
            events.rejected = Some((events.rejected.as_ref().map_or(1, |(number, _)| number + 1), why))
        }
    }
}
