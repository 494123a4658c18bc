//! Measures freshness: the time from the acknowledgement of the n-th event to the first cached `PingCount` of at least n.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use ping_proto::{PingCountRequest, PingRequest};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::{pipeline::Pipeline, report::Report};

/// Maximum number of concurrent events.
const CALLERS: u32 = 50;

pub(crate) async fn measure(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let pipeline = Pipeline::start(true).await?;
    for rate in [10, 100, 1_000, 5_000] {
        let histogram = at_rate(&pipeline, rate, seconds).await?;
        let name = format!("freshness at {rate} pings/s");
        for (label, quantile) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)] {
            let value = histogram.value_at_quantile(quantile) as f64 / 1e3;
            report.add(format!("{name}: {label}"), value, "ms");
        }
    }
    Ok(())
}

async fn at_rate(pipeline: &Pipeline, rate: u32, seconds: u64) -> anyhow::Result<Histogram<u64>> {
    let already_stored = pipeline.stored().await?;
    pipeline.settle().await?;
    let acknowledged: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let mut senders = JoinSet::new();
    let callers = rate.min(CALLERS);
    for _ in 0..callers {
        let (client, acknowledged) = (pipeline.client().await?, Arc::clone(&acknowledged));
        senders.spawn(async move {
            let mut tick = interval(Duration::from_secs(1) * callers / rate);
            tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let end = Instant::now() + Duration::from_secs(seconds);
            while Instant::now() < end {
                tick.tick().await;
                client.ping(PingRequest::default()).await?;
                acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            }
            anyhow::Ok(())
        });
    }
    let client = pipeline.client().await?;
    let mut histogram = Histogram::new(3)?;
    let mut visible_before = 0;
    loop {
        let all_sent = senders.is_empty();
        let response = client.ping_count(PingCountRequest::default()).await?.into_inner();
        let now = Instant::now();
        let visible = usize::try_from(response.ping_count - already_stored)?;
        let done = {
            let times = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
            // An event may be visible before its caller has received the acknowledgement. It is recorded with the next poll.
            let known = visible.min(times.len());
            for acknowledged_at in times.get(visible_before..known).unwrap_or_default() {
                histogram.record(u64::try_from(now.duration_since(*acknowledged_at).as_micros())?.max(1))?;
            }
            visible_before = visible_before.max(known);
            all_sent && visible_before == times.len()
        };
        if done {
            return Ok(histogram);
        }
        while let Some(result) = senders.try_join_next() {
            result??;
        }
        sleep(Duration::from_millis(1)).await;
    }
}
