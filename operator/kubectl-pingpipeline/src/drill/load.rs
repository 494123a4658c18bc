//! Pings at a steady rate, each with an id of its own, sent again with the same id until somebody acknowledges it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::server::{Answer, Minute, Server};

/// Pings under way at once.
const SENDERS: u16 = 8;
/// Pause before a ping is sent again.
const AGAIN: Duration = Duration::from_millis(200);

/// What became of the pings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pings {
    /// Acknowledged, each once, however often it was sent.
    pub(crate) acknowledged: u64,
    /// Given up without an acknowledgement: each may be counted or not.
    pub(crate) unknown: u64,
    /// Refused, with the last reason.
    pub(crate) refused: Option<(u64, String)>,
    /// The slowest acknowledgement, with all its retries.
    pub(crate) slowest: Duration,
}

pub(crate) struct Load {
    senders: JoinSet<()>,
    stop: CancellationToken,
    pings: Arc<Mutex<Pings>>,
}

impl Load {
    /// Starts `rate` pings a second, dated in `minute`. One that nobody acknowledges is given up after `patience`.
    pub(crate) fn start(server: &Server, minute: Minute, rate: u16, patience: Duration) -> Self {
        let (pings, stop, mut senders) = (Arc::default(), CancellationToken::new(), JoinSet::new());
        for sender in 0..SENDERS.min(rate) {
            let (server, pings, stop) = (server.clone(), Arc::clone(&pings), stop.clone());
            let senders_at_work = SENDERS.min(rate);
            let pause = Duration::from_secs(1) * senders_at_work.into() / rate.into();
            senders.spawn(async move {
                // Each sender has its own numbers, so no two pings have the same time.
                for turn in 0_u64.. {
                    if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                        return;
                    }
                    let number = turn * u64::from(senders_at_work) + u64::from(sender);
                    settle(&server, minute.at(number), patience, &pings).await;
                }
            });
        }
        Self { senders, stop, pings }
    }

    /// Sends nothing new, and returns when the fate of everything sent is known.
    pub(crate) async fn finish(mut self) -> Pings {
        self.stop.cancel();
        while self.senders.join_next().await.is_some() {}
        self.pings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn settle(server: &Server, at_ms: i64, patience: Duration, pings: &Mutex<Pings>) {
    let (id, begun) = (Uuid::now_v7(), Instant::now());
    let answer = loop {
        match server.ping(id, at_ms).await {
            Answer::Unknown if begun.elapsed() < patience => tokio::time::sleep(AGAIN).await,
            answer => break answer,
        }
    };
    let mut pings = pings.lock().unwrap_or_else(PoisonError::into_inner);
    match answer {
        Answer::Acknowledged => {
            pings.acknowledged += 1;
            pings.slowest = pings.slowest.max(begun.elapsed());
        }
        Answer::Unknown => pings.unknown += 1,
        Answer::Refused(why) => pings.refused = Some((pings.refused.as_ref().map_or(1, |(number, _)| number + 1), why)),
    }
}
