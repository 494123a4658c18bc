//! The audit: cache against store, every few seconds. Between two looks at the store everything only grows, so a counter read
//! in between must lie between them, once the cache has counted what the first look saw.

use std::{collections::BTreeMap, future::pending, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::time::sleep;

use super::{CountError, CounterProjection as Projected, Processor, Projection, consume::Session};
use ping_core::{Generation, Minute};
use ping_ports::{CacheCounters, LogConsumer, Snapshot};

/// How often, and how long apart, the audit waits for the cache to reach its first look.
const WAITS: u32 = 20;
const WAIT: Duration = Duration::from_millis(100);

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// Cache and store agree.
    Equal,
    /// The cache is away, empty, or too far behind to be judged.
    Unknown,
    /// They differ: by how many events, and where.
    Drift {
        /// The filling that was looked at.
        generation: Generation,
        /// Sum of the absolute differences.
        events: i64,
        /// The first differences, in words.
        differences: Vec<String>,
    },
}

/// Compares `counters` with what the store held before and after they were read.
#[must_use]
pub fn compare(before: &Snapshot, counters: &CacheCounters, after: &Snapshot, window_start: Minute) -> AuditOutcome {
    let mut events = 0;
    let mut differences = Vec::new();
    let mut check = |what: String, low: i64, have: i64, high: i64| {
        let off = if have < low { low - have } else { (have - high).max(0) };
        if off > 0 {
            events += off;
            differences.push(format!("{what}: the cache has {have}, the store {low} to {high}"));
        }
    };
    check("total".into(), before.total, counters.total, after.total);
    let of = |minutes: &BTreeMap<Minute, i64>, minute| minutes.get(&minute).copied().unwrap_or(0);
    // Only minutes inside the window are complete in the cache; an older one counts from when it reappeared.
    let minutes = after.minutes.keys().chain(counters.minutes.keys()).filter(|minute| **minute >= window_start);
    for minute in minutes.copied().collect::<std::collections::BTreeSet<_>>() {
        let low = of(&before.minutes, minute);
        check(format!("minute {}", minute.0), low, of(&counters.minutes, minute), of(&after.minutes, minute));
    }
    if events == 0 {
        return AuditOutcome::Equal;
    }
    differences.truncate(10);
    AuditOutcome::Drift { generation: counters.generation.clone(), events, differences }
}

/// One audit.
pub(super) async fn audit(projected: &Projected) -> Result<AuditOutcome, CountError> {
    let window = projected.settings.window;
    let now = Minute::of(projected.clock.now());
    let start = now.back(window);
    let before = projected.totals.snapshot(start, Duration::ZERO).await?;
    for _ in 0..WAITS {
        let Some(counters) = projected.cache.counters().await? else { return Ok(AuditOutcome::Unknown) };
        if counters.as_of >= before.at {
            let after = projected.totals.snapshot(start, Duration::ZERO).await?;
            // A minute older than the window may leave the cache between the looks.
            let verdict = compare(&before, &counters, &after, now.back(window - 2));
            if verdict == AuditOutcome::Equal {
                projected.cache.audited(&counters.generation, projected.clock.now()).await?;
            }
            return Ok(verdict);
        }
        sleep(WAIT).await;
    }
    Ok(AuditOutcome::Unknown)
}

impl<S: LogConsumer, P: Projection> Processor<S, P> {
    /// The next audit, by whoever has the first partition.
    pub(super) fn audit_later(&self) -> BoxFuture<'static, Result<AuditOutcome, CountError>> {
        if !self.assigned.contains(&0) {
            return pending().boxed();
        }
        let (projection, interval) = (Arc::clone(&self.projection), self.settings.audit_interval);
        async move {
            sleep(interval).await;
            projection.audit().await
        }
        .boxed()
    }

    /// Acts on an audit. A difference that is still there at the next one is drift: readers are warned, the cache rebuilt.
    pub(super) async fn judge(
        &self,
        session: &mut Session<P::Sums>,
        verdict: AuditOutcome,
    ) -> Result<bool, CountError> {
        match verdict {
            AuditOutcome::Equal => {
                session.suspicions = 0;
                self.metrics.audits.inc();
                self.metrics.drift_events.set(0);
                Ok(false)
            }
            AuditOutcome::Unknown => Ok(false),
            AuditOutcome::Drift { generation, events, differences } => {
                session.suspicions += 1;
                if session.suspicions < 2 {
                    return Ok(false);
                }
                self.metrics.drifts.inc();
                self.metrics.drift_events.set(events);
                tracing::error!(events, ?differences, "cache and store differ: rebuilding the cache");
                self.projection.mark_suspect(&generation).await?;
                self.rebuild(Some(generation)).await?;
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ping_core::Marks;

    fn snapshot(total: i64, minutes: &[(i64, i64)]) -> Snapshot {
        let minutes = minutes.iter().map(|(minute, count)| (Minute(*minute), *count)).collect();
        Snapshot { at: 0, total, minutes, writers: Vec::new() }
    }

    fn counters(total: i64, minutes: &[(i64, i64)]) -> CacheCounters {
        let minutes = minutes.iter().map(|(minute, count)| (Minute(*minute), *count)).collect();
        CacheCounters { generation: "g".into(), total, minutes, as_of: 0, marks: Marks::default() }
    }

    #[test]
    fn a_count_between_two_looks_is_equal() {
        let verdict = compare(&snapshot(5, &[(9, 5)]), &counters(6, &[(9, 6)]), &snapshot(8, &[(9, 8)]), Minute(0));
        assert_eq!(verdict, AuditOutcome::Equal);
    }

    #[test]
    fn a_lost_or_doubled_event_is_drift() {
        let store = snapshot(5, &[(9, 5)]);
        for (have, off) in [(4, 2), (7, 4)] {
            let verdict = compare(&store, &counters(have, &[(9, have)]), &store, Minute(0));
            assert!(matches!(verdict, AuditOutcome::Drift { events, .. } if events == off), "{verdict:?}");
        }
    }

    #[test]
    fn minutes_outside_the_window_are_not_judged() {
        let store = snapshot(5, &[(9, 5)]);
        assert_eq!(compare(&store, &counters(5, &[(3, 1), (9, 5)]), &store, Minute(4)), AuditOutcome::Equal);
        assert!(matches!(
            compare(&store, &counters(5, &[(9, 5), (10, 1)]), &store, Minute(4)),
            AuditOutcome::Drift { .. }
        ));
    }
}
