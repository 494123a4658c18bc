//! `LiveService.Watch`, by gRPC.

use std::collections::BTreeMap;

use ping_client::Client;
use ping_proto::{ComponentState, WatchRequest, WatchResponse};
use serde_json::json;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::processes::{Pingd, TIMEOUT};

async fn watch(pingd: &Pingd, minutes: i32, top_sources: i32) -> Result<Streaming<WatchResponse>, Status> {
    let client = Client::connect(&pingd.api).await.unwrap();
    Ok(client.watch(WatchRequest { minutes, top_sources }).await?.into_inner())
}

async fn next(stream: &mut Streaming<WatchResponse>) -> Option<WatchResponse> {
    timeout(TIMEOUT, stream.message()).await.expect("a message each second").unwrap()
}

#[tokio::test]
async fn a_watcher_sees_counts_minutes_and_top_sources_as_they_change_and_something_each_second() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let mut stream = watch(&pingd, 2, 1).await.unwrap();
    let first = next(&mut stream).await.unwrap();
    assert_eq!(first.count.as_option().unwrap().ping_count, 0);
    assert_eq!(first.database.as_known(), Some(ComponentState::COMPONENT_STATE_AVAILABLE));
    assert!(next(&mut stream).await.is_some(), "nothing has happened");
    for source in ["a", "a", "b"] {
        pingd.ping(json!({"source": source})).await;
    }
    pingd.ping(json!({"source": "b", "timestampMs": crate::processes::EXAMPLE})).await;
    let (mut total, mut minutes) = (0, BTreeMap::new());
    while total < 4 || minutes.values().sum::<i64>() < 3 {
        let message = next(&mut stream).await.unwrap();
        let count = message.count.as_option().unwrap();
        assert!(count.exact && count.ping_count >= total, "{message:?}");
        total = count.ping_count;
        minutes.extend(message.minutes.into_iter().map(|minute| (minute.start_ms, minute.count)));
    }
    assert!((1..=2).contains(&minutes.len()), "the old event is in none of the last two minutes: {minutes:?}");
    // The ranking is read when someone begins to watch it, and then every half minute.
    drop(stream);
    let mut again = watch(&pingd, 0, 1).await.unwrap();
    let top = loop {
        let message = next(&mut again).await.unwrap();
        assert!(message.minutes.is_empty(), "none were asked for");
        if let Some(top) = message.top_sources.as_option().filter(|top| !top.sources.is_empty()) {
            break top.clone();
        }
    };
    assert_eq!(top.sources.len(), 1, "{top:?}");
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_in_words() {
    let pingd = Pingd::dev(&["--memory"]).await;
    for (minutes, top_sources, words) in
        [(1_441, 0, "minutes must be between 0 and 1440"), (0, 11, "top_sources must be"), (-1, 0, "it is -1")]
    {
        // The error is in the headers of the answer, or follows them.
        let error = match watch(&pingd, minutes, top_sources).await {
            Ok(mut stream) => stream.message().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains(words), "{error}");
    }
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let mut pingd = Pingd::dev(&["--memory"]).await;
    let mut stream = watch(&pingd, 1, 1).await.unwrap();
    assert!(next(&mut stream).await.is_some());
    let stopped = tokio::spawn(async move { pingd.terminate().await });
    while next(&mut stream).await.is_some() {}
    assert_eq!(stopped.await.unwrap(), Some(0), "it drains");
}
