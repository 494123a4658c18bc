//! The highest rate at which the views keep up, and what it costs.

use std::time::Duration;

use anyhow::bail;
use hdrhistogram::Histogram;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::load;
use crate::{
    keys::{Keys, name},
    pipeline::Pipeline,
    report::Report,
    storage::{database_bytes, report_growth},
    views::{catch_up, lag_ms, query_number},
};

/// Seconds of load before anything is measured.
pub(super) const RAMP_SECONDS: u64 = 5;
/// The views keep up if their lag is at most this in 99 % of the samples (issue 23).
pub(super) const MAX_LAG_MS: u64 = 2_000;
const SHARE_WITHIN: f64 = 0.99;
/// The share of the rate that must be acknowledged: the rest is in flight when the load ends.
const SHARE_ACKNOWLEDGED: f64 = 0.97;
const SAMPLES_PER_SECOND: u32 = 4;
/// How many rates are tried, and for how many seconds each.
const PROBES: u32 = 6;
const PROBE_SECONDS: u64 = 15;
/// How many rates are held for the whole time, each a tenth lower than the one before.
const ATTEMPTS: u32 = 5;

/// What a rate led to.
struct SteadyLoad {
    acknowledged_per_second: f64,
    /// In milliseconds.
    lag: Histogram<u64>,
    keeps_up: bool,
}

/// Finds the highest rate, up to `limit`, and holds it for `seconds`; returns it, in events per second.
pub(super) async fn measure(
    report: &mut Report,
    pipeline: &Pipeline,
    name: &str,
    keys: Keys,
    limit: f64,
    seconds: u64,
) -> anyhow::Result<f64> {
    let mut rate = search(pipeline, keys, limit).await?;
    for _ in 0..ATTEMPTS {
        let before = (pipeline.stored().await?, pipeline.cpu_usage(), wal_bytes(pipeline).await?);
        let size = database_bytes(pipeline).await?;
        let held = hold(pipeline, keys, rate, seconds).await?;
        catch_up(pipeline).await?;
        if !held.keeps_up {
            rate *= 0.9;
            continue;
        }
        let events = (pipeline.stored().await? - before.0) as f64;
        let acknowledged = held.acknowledged_per_second;
        report.compare(
            format!("{name}: highest rate with fresh views"),
            acknowledged,
            "events/s",
            super::STREAM,
            limit,
        );
        for (label, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            report.add(format!("{name}: views' lag, {label}"), held.lag.value_at_quantile(quantile) as f64, "ms");
        }
        pipeline.report_cost(report, name, &before.1, events);
        report.add(format!("{name}: WAL"), (wal_bytes(pipeline).await? - before.2) / events, "bytes per event");
        let time = Duration::from_secs(RAMP_SECONDS + seconds);
        report_growth(report, pipeline, name, size, (events, time)).await?;
        return Ok(rate);
    }
    bail!("the views do not keep up with {rate:.0} events/s either")
}

/// The highest of a few rates with which the views keep up for some seconds.
async fn search(pipeline: &Pipeline, keys: Keys, limit: f64) -> anyhow::Result<f64> {
    // The goal of issue 23 is a third.
    let (mut low, mut high, mut rate): (Option<f64>, f64, f64) = (None, limit, limit / 3.0);
    for _ in 0..PROBES {
        let keeps_up = hold(pipeline, keys, rate, PROBE_SECONDS).await?.keeps_up;
        catch_up(pipeline).await?;
        eprintln!("the views {} {rate:.0} events/s", if keeps_up { "keep up with" } else { "fall behind at" });
        if keeps_up {
            low = Some(rate);
        } else {
            high = rate;
        }
        rate = low.map_or(high / 2.0, |low| (low * high).sqrt());
    }
    Ok(low.unwrap_or(rate))
}

/// Sends `rate` events per second and samples the lag of the views for `seconds`, or until they have been late too often.
async fn hold(pipeline: &Pipeline, keys: Keys, rate: f64, seconds: u64) -> anyhow::Result<SteadyLoad> {
    let started = Instant::now();
    let load = load::start(&pipeline.address, keys, rate, RAMP_SECONDS + seconds).await?;
    let client = pipeline.client().await?;
    let mut tick =
        interval_at(started + Duration::from_secs(RAMP_SECONDS), Duration::from_secs(1) / SAMPLES_PER_SECOND);
    // A sample that is late is still taken, or a system that stalls would look better than it is.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let samples = u64::from(SAMPLES_PER_SECOND) * seconds;
    let may_be_late = (samples as f64 * (1.0 - SHARE_WITHIN)) as u64;
    let (mut lag, mut late) = (Histogram::new(3)?, 0);
    for _ in 0..samples {
        tick.tick().await;
        let sample = lag_ms(&client, name(0)).await?;
        lag.saturating_record(sample.max(1));
        late += u64::from(sample > MAX_LAG_MS);
        if late > may_be_late {
            return Ok(SteadyLoad { acknowledged_per_second: 0.0, lag, keeps_up: false });
        }
    }
    let acknowledged_per_second = load.finish().await? as f64 / started.elapsed().as_secs_f64();
    Ok(SteadyLoad { acknowledged_per_second, lag, keeps_up: acknowledged_per_second >= rate * SHARE_ACKNOWLEDGED })
}

/// The bytes of WAL that Postgres has written.
async fn wal_bytes(pipeline: &Pipeline) -> anyhow::Result<f64> {
    query_number(pipeline, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')").await
}
