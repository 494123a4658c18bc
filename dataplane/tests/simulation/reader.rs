//! A reader of statuses.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use ping_core::Verdict;
use ping_history::Status;
use ping_ports::Clock;
use ping_query::StatusQuery;
use tokio::time::sleep;

use crate::{
    clients::{self, SOURCES, Sent},
    rng::Host,
};

/// Reads statuses of random sources, until the schedule ends.
pub async fn read_statuses(host: Host, query: StatusQuery, clock: Arc<dyn Clock>, sent: Arc<Mutex<Sent>>) {
    let mut finals = BTreeMap::new();
    loop {
        sleep(host.rng.millis(300)).await;
        let (source, began) = (format!("source-{}", host.rng.below(SOURCES)), clock.now());
        // The store is available.
        let answer = query.of(&source).await.unwrap();
        let status = if answer.value.verdict == Verdict::Negative { Status::Final } else { Status::Open };
        let mut sent = sent.lock();
        if status == Status::Final {
            finals.insert(source.clone(), answer.as_of);
        }
        // Between a checkpoint and its invalidations, the cache has an older status than the store, and its `as_of` is no later.
        let is_older = finals.get(&source).is_some_and(|as_of| answer.as_of <= *as_of);
        let is_after_restore = began > sent.went_back && answer.as_of > sent.went_back;
        if is_after_restore && !(status == Status::Open && is_older) {
            sent.history.status(&source, clients::since(began, &*clock), status);
        }
    }
}
