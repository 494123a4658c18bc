//! Streams of batches of events from many sources.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use ping_client::Client;
use ping_proto::RecordBatchRequest;
use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::keys::{Keys, event, nth};

/// Events per batch, and streams, as of the benchmark `stream`.
const BATCH: usize = 500;
const STREAMS: u32 = 2;

/// Load that runs in the background until it ends or is dropped.
pub(super) struct Load {
    streams: JoinSet<anyhow::Result<i64>>,
}

impl Load {
    /// Waits until it ends; the number of acknowledged events.
    pub(super) async fn finish(mut self) -> anyhow::Result<i64> {
        let mut acknowledged = 0;
        while let Some(stream) = self.streams.join_next().await {
            acknowledged += stream??;
        }
        Ok(acknowledged)
    }
}

/// Sends `rate` events per second for `seconds`. Batches that are late follow at once, so the rate does not fall when the server is slow,
/// as long as the connections take them.
pub(super) async fn start(address: &str, keys: Keys, rate: f64, seconds: u64) -> anyhow::Result<Load> {
    let mut streams = JoinSet::new();
    let per_stream = rate / f64::from(STREAMS);
    for _ in 0..STREAMS {
        let client = Client::connect(address).await.map_err(anyhow::Error::from_boxed)?;
        let mut tick = interval(Duration::from_secs_f64(BATCH as f64 / per_stream));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let batches = stream::unfold((tick, SmallRng::from_os_rng()), move |(mut tick, mut random)| async move {
            tick.tick().await;
            let events = (0..BATCH).map(|_| event(keys.next(&mut random))).collect();
            Some((RecordBatchRequest { events }, (tick, random)))
        });
        let number = per_stream * seconds as f64 / BATCH as f64;
        streams.spawn(send(client, batches.take(number as usize)));
    }
    Ok(Load { streams })
}

/// Records one event of each of `sources`, as fast as possible.
pub(super) async fn once_each(address: &str, sources: u64) -> anyhow::Result<()> {
    let client = Client::connect(address).await.map_err(anyhow::Error::from_boxed)?;
    let events = stream::iter((0..sources).map(move |turn| event(nth(turn, sources))));
    send(client, events.chunks(BATCH).map(|events| RecordBatchRequest { events })).await?;
    Ok(())
}

/// Sends `batches` over one stream; the number of acknowledged events.
async fn send(client: Client, batches: impl Stream<Item = RecordBatchRequest> + Send + 'static) -> anyhow::Result<i64> {
    let mut responses = client.record_stream(batches).await?.into_inner();
    let mut acknowledged = 0;
    while let Some(response) = responses.message().await? {
        acknowledged += response.accepted;
    }
    Ok(acknowledged)
}
