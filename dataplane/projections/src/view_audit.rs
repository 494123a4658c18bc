//! Audits the views: their sums every second or two, and in the background what each segment and each day of rows holds. Every part is
//! read in steps, with rests that bound its cost, so a scan takes longer the more there is to read.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use super::{pace::Pace, projection::AuditOutcome};
use ping_core::{Day, Generation, Millis, RetentionCutoffs};
use ping_ports::{Clock, Drift, RowDifference, StoreError, ViewAudit, ViewSums, chain, compare_views};
use ping_segments::{AuditedSegment, Family};

/// Pause between two looks at the sums.
const SUMS_INTERVAL: Duration = Duration::from_secs(1);
/// Pause between two steps of a scan.
const STEP_INTERVAL: Duration = Duration::from_millis(500);
/// A scan starts no earlier than this after the one before.
const SCAN_INTERVAL: Duration = Duration::from_secs(20);
/// Pause after an error.
const ERROR_PAUSE: Duration = Duration::from_secs(5);
/// Pause after a rebuild because of a program of an earlier version, which may still be running.
const OUTDATED_PAUSE: Duration = Duration::from_secs(60);
/// Segments and days that one step reads at most.
const MAX_SEGMENTS: usize = 4_096;
const MAX_DAYS: usize = 512;
/// How often a good result is noted in the store, in milliseconds.
const NOTE_INTERVAL: Millis = 5_000;

/// Audits the views.
pub(super) struct ViewAuditor {
    audit: Arc<dyn ViewAudit>,
    clock: Arc<dyn Clock>,
    /// `None` before the first audit.
    state: Mutex<Option<State>>,
}

struct State {
    sums: Pace,
    segments: Scan<i64>,
    rows: Scan<Day>,
    /// The last look at the sums.
    look: Option<ViewSums>,
    /// A good result was noted at this time.
    noted: Millis,
    /// Segments that are damaged, in this generation. They stay so until the views are rebuilt.
    damage: Option<(Generation, Drift)>,
    /// Rows differed when they were last compared.
    rows_differ: bool,
}

/// A walk through everything, again and again.
struct Scan<T> {
    pace: Pace,
    /// Everything before this is done.
    next: T,
    started: Instant,
}

impl<T: Copy> Scan<T> {
    fn new(first: T, max_size: usize, now: Instant) -> Self {
        Self { pace: Pace::new(STEP_INTERVAL, max_size, now), next: first, started: now }
    }

    /// A step from `start` to `end` came up to `next`, or finished the scan; the next one begins at `first`.
    fn stepped(&mut self, start: Instant, end: Instant, next: Option<T>, first: T) {
        self.pace.stepped(start, end);
        self.next = next.unwrap_or(first);
        if next.is_none() {
            self.pace.rest_until(self.started + SCAN_INTERVAL);
            self.started = end.max(self.started + SCAN_INTERVAL);
        }
    }
}

impl State {
    fn new(now: Instant) -> Self {
        Self {
            sums: Pace::new(SUMS_INTERVAL, 1, now),
            segments: Scan::new(0, MAX_SEGMENTS, now),
            rows: Scan::new(Day(i64::MIN), MAX_DAYS, now),
            look: None,
            noted: 0,
            damage: None,
            rows_differ: false,
        }
    }
}

impl ViewAuditor {
    pub(super) fn new(audit: Arc<dyn ViewAudit>, clock: Arc<dyn Clock>) -> Self {
        Self { audit, clock, state: Mutex::new(None) }
    }

    /// Does what is due. A failure is logged, and does not stop counting. The audit is retried after a pause.
    pub(super) async fn audit(&self, cutoffs: RetentionCutoffs) -> AuditOutcome {
        let mut guard = self.state.lock().await;
        let state = guard.get_or_insert_with(|| State::new(Instant::now()));
        match self.steps(state, cutoffs).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::warn!(error = chain(&error), "views not audited; retrying");
                state.sums.rest_until(Instant::now() + ERROR_PAUSE);
                AuditOutcome::Unknown
            }
        }
    }

    /// Readers learn that `generation` is wrong.
    pub(super) async fn mark_suspect(&self, generation: &Generation) -> Result<(), StoreError> {
        self.audit.mark_views_suspect(generation).await
    }

    /// The sums come first: without them nothing else can be judged.
    async fn steps(&self, state: &mut State, cutoffs: RetentionCutoffs) -> Result<AuditOutcome, StoreError> {
        let start = Instant::now();
        if !state.sums.is_due(start) {
            return Ok(AuditOutcome::Unknown);
        }
        let sums = self.audit.view_sums().await?;
        state.sums.stepped(start, Instant::now());
        let Some(sums) = sums else { return Ok(AuditOutcome::Unknown) };
        let generation = sums.generation.clone();
        state.damage.take_if(|(of, _)| *of != generation);
        if !sums.complete {
            state.look = None;
            state.sums.rest_until(Instant::now() + OUTDATED_PAUSE);
            return Ok(AuditOutcome::Outdated { generation });
        }
        let mut drift = compare_views(state.look.as_ref(), &sums, cutoffs);
        if drift.is_none() {
            drift = state.damage.as_ref().map(|(_, drift)| drift.clone());
        }
        if drift.is_none() {
            drift = self.check_segments(state).await?;
            state.damage = drift.clone().map(|drift| (generation.clone(), drift));
        }
        if drift.is_none() {
            drift = self.check_rows(state, &sums).await?;
        }
        state.look = Some(sums);
        if let Some(drift) = drift {
            // A difference is reported for as long as this at least: readers look every two seconds, and a repair may take less.
            state.noted = self.clock.now();
            return Ok(AuditOutcome::Drift { generation, drift });
        }
        if state.rows_differ {
            return Ok(AuditOutcome::Unknown);
        }
        let now = self.clock.now();
        if now - state.noted >= NOTE_INTERVAL {
            self.audit.views_audited(&generation, now).await?;
            state.noted = now;
        }
        Ok(AuditOutcome::Equal)
    }

    /// The next segments, if that is due.
    async fn check_segments(&self, state: &mut State) -> Result<Option<Drift>, StoreError> {
        let start = Instant::now();
        let scan = &mut state.segments;
        if !scan.pace.is_due(start) {
            return Ok(None);
        }
        let limit = scan.pace.size();
        let read = self.audit.audited_segments(scan.next, limit).await;
        let segments = read.inspect_err(|_| scan.pace.failed(start, Instant::now()))?;
        let damaged: Vec<_> = segments.iter().filter(|segment| !segment.is_intact()).collect();
        let next = segments.last().filter(|_| segments.len() == limit).map(|last| last.segment.id);
        scan.stepped(start, Instant::now(), next, 0);
        Ok(damage(&damaged))
    }

    /// The rows for SQL of the next days, if that is due.
    async fn check_rows(&self, state: &mut State, sums: &ViewSums) -> Result<Option<Drift>, StoreError> {
        let start = Instant::now();
        let scan = &mut state.rows;
        if !scan.pace.is_due(start) {
            return Ok(None);
        }
        let dated_periods = sums.added.keys().filter(|(family, _)| *family != Family::Kinds);
        let mut days: Vec<_> = dated_periods.map(|(_, day)| Day(*day)).filter(|day| *day >= scan.next).collect();
        days.sort_unstable();
        days.dedup();
        let after = days.get(scan.pace.size()).copied();
        let until = after.unwrap_or(Day(i64::MAX));
        let read = self.audit.differing_rows(scan.next, until).await;
        let differing = read.inspect_err(|_| scan.pace.failed(start, Instant::now()))?;
        let drift = RowDifference::drift(&differing);
        // Days that differ are read again, because one look alone does not count.
        state.rows_differ = drift.is_some();
        let (next, first) = if drift.is_some() { (Some(scan.next), scan.next) } else { (after, Day(i64::MIN)) };
        scan.stepped(start, Instant::now(), next, first);
        Ok(drift)
    }
}

/// Segments that are not what was written. Each counts as all of its events, because which of them are right is not known.
fn damage(damaged: &[&AuditedSegment]) -> Option<Drift> {
    let events = damaged.iter().fold(0, |sum: i64, segment| sum.saturating_add(segment.events.max(1)));
    let describe = |segment: &&AuditedSegment| {
        let place = segment.segment.place;
        format!("segment {} ({:?}, period {}) is not what was written", segment.segment.id, place.family, place.period)
    };
    let differences = damaged.iter().take(10).map(describe).collect();
    (!damaged.is_empty()).then_some(Drift { events, differences })
}

#[cfg(test)]
mod tests;
