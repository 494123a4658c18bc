//! A reader of statuses.

use std::sync::Arc;

use parking_lot::Mutex;
use ping_core::Verdict;
use ping_history::Status;
use ping_ports::Clock;
use ping_query::StatusQuery;
use tokio::time::sleep;

use crate::{
    clients::{self, SOURCES, Sent, decided},
    rng::Host,
};

/// Reads statuses of random sources, until the schedule ends.
pub async fn read_statuses(host: Host, query: StatusQuery, clock: Arc<dyn Clock>, sent: Arc<Mutex<Sent>>) {
    let status = |is_final| if is_final { Status::Final } else { Status::Open };
    loop {
        sleep(host.rng.millis(50)).await;
        let (source, began) = (format!("source-{}", host.rng.below(SOURCES)), clock.now());
        // The store is available.
        let answer = query.of(&source).await.unwrap();
        let (verdict, at) = (answer.value.verdict, clients::since(began, &*clock));
        let mut sent = sent.lock();
        if began > sent.went_back && answer.as_of > sent.went_back {
            sent.history.status(&source, at, status(verdict == Verdict::Negative));
            sent.history.status(&decided(&source), at, status(verdict != Verdict::Unknown));
        }
    }
}
