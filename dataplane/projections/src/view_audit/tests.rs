use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use ping_core::Retention;
use ping_ports::ViewAuditState;
use ping_segments::{Changes, Segment, StoredSegment};
use tokio::time::sleep;

use super::*;

const NOW: Millis = 1_728_926_331_000;

/// Views of one generation, in which segments and rows can be edited.
struct FakeViews {
    sums: Mutex<ViewSums>,
    segments: Mutex<Vec<AuditedSegment>>,
    differing: Mutex<Vec<RowDifference>>,
    audited: Mutex<Option<Millis>>,
    /// Reading the rows of more days, or more segments, takes too long.
    readable: AtomicUsize,
    /// How often that happened.
    timeouts: AtomicUsize,
    /// The days before this one were read.
    read_until: Mutex<Day>,
}

impl FakeViews {
    /// Reads `size` items.
    async fn read(&self, size: usize) -> Result<(), StoreError> {
        if size <= self.readable.load(Ordering::Relaxed) {
            return Ok(());
        }
        sleep(Duration::from_secs(60)).await;
        self.timeouts.fetch_add(1, Ordering::Relaxed);
        Err(StoreError("no answer within a minute".into()))
    }
}

fn fake() -> Arc<FakeViews> {
    let mut changes = Changes::default();
    for number in 0..300 {
        changes.add(&format!("source-{number}"), "", NOW);
    }
    let cutoffs = Retention::default().at(NOW).without_minutes();
    let written: Vec<Segment> = changes.segments(cutoffs).map(Result::unwrap).collect();
    let mut added = BTreeMap::new();
    for segment in &written {
        *added.entry((segment.place.family, segment.place.period)).or_insert(0) += segment.events;
    }
    let stored = |(id, segment): (i64, &Segment)| AuditedSegment {
        segment: StoredSegment { id, place: segment.place, data: segment.data.clone() },
        events: segment.events,
        digest: segment.digest(),
    };
    let sums = ViewSums {
        generation: "g".into(),
        until: NOW,
        as_of: NOW,
        complete: true,
        committed: [(Day::of(NOW), 300)].into(),
        held: added.clone(),
        added,
    };
    Arc::new(FakeViews {
        sums: Mutex::new(sums),
        segments: Mutex::new((1..).zip(&written).map(stored).collect()),
        differing: Mutex::default(),
        audited: Mutex::default(),
        readable: AtomicUsize::new(usize::MAX),
        timeouts: AtomicUsize::new(0),
        read_until: Mutex::new(Day(0)),
    })
}

#[async_trait]
impl ViewAudit for FakeViews {
    async fn view_sums(&self) -> Result<Option<ViewSums>, StoreError> {
        Ok(Some(self.sums.lock().clone()))
    }

    async fn audited_segments(&self, after: i64, limit: usize) -> Result<Vec<AuditedSegment>, StoreError> {
        self.read(limit).await?;
        let segments = self.segments.lock();
        Ok(segments.iter().filter(|segment| segment.segment.id > after).take(limit).cloned().collect())
    }

    async fn differing_rows(&self, from: Day, to: Day) -> Result<Vec<RowDifference>, StoreError> {
        let days: BTreeSet<_> = self.sums.lock().added.keys().map(|(_, day)| Day(*day)).collect();
        self.read(days.range(from..to).count()).await?;
        let mut read_until = self.read_until.lock();
        *read_until = to.max(*read_until);
        let differing = self.differing.lock();
        Ok(differing.iter().filter(|row| (from..to).contains(&row.day)).copied().collect())
    }

    async fn mark_views_suspect(&self, _: &Generation) -> Result<(), StoreError> {
        Ok(())
    }

    async fn views_audited(&self, _: &Generation, at: Millis) -> Result<(), StoreError> {
        *self.audited.lock() = Some(at);
        Ok(())
    }

    async fn view_audit_state(&self) -> Result<ViewAuditState, StoreError> {
        Ok(ViewAuditState::default())
    }
}

struct Standing;

impl Clock for Standing {
    fn now(&self) -> Millis {
        NOW
    }
}

/// Audits every quarter of a second for some time, and returns what was found.
async fn audits(views: &Arc<FakeViews>, time: Duration) -> Vec<AuditOutcome> {
    let auditor = ViewAuditor::new(Arc::<FakeViews>::clone(views), Arc::new(Standing));
    let (mut outcomes, started) = (Vec::new(), Instant::now());
    while started.elapsed() < time {
        outcomes.push(auditor.audit(Retention::default().at(NOW)).await);
        sleep(Duration::from_millis(250)).await;
    }
    outcomes
}

async fn a_minute_of_audits(views: &Arc<FakeViews>) -> Vec<AuditOutcome> {
    audits(views, Duration::from_secs(60)).await
}

/// Whether two audits found a difference without one in between that found none: only then are the views rebuilt.
fn would_rebuild(outcomes: &[AuditOutcome]) -> bool {
    let judged: Vec<_> = outcomes.iter().filter(|outcome| **outcome != AuditOutcome::Unknown).collect();
    judged.windows(2).any(|pair| pair.iter().all(|outcome| matches!(outcome, AuditOutcome::Drift { .. })))
}

#[tokio::test(start_paused = true)]
async fn right_views_are_found_equal_once_per_second() {
    let views = fake();
    let outcomes = a_minute_of_audits(&views).await;
    let equal = outcomes.iter().filter(|outcome| **outcome == AuditOutcome::Equal).count();
    assert_eq!((equal, outcomes.len()), (60, 240));
    assert_eq!(*views.audited.lock(), Some(NOW));
}

#[tokio::test(start_paused = true)]
async fn an_edited_segment_is_found_within_a_minute() {
    let views = fake();
    views.segments.lock()[2].segment.data[3] ^= 1;
    assert!(would_rebuild(&a_minute_of_audits(&views).await));
}

#[tokio::test(start_paused = true)]
async fn a_missing_segment_is_found() {
    let views = fake();
    views.sums.lock().held.clear();
    assert!(would_rebuild(&a_minute_of_audits(&views).await));
}

#[tokio::test(start_paused = true)]
async fn edited_rows_are_found() {
    let views = fake();
    let day = Day::of(NOW);
    views.differing.lock().push(RowDifference { family: Family::Windows, day, added: 300, held: 301 });
    assert!(would_rebuild(&a_minute_of_audits(&views).await));
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_version_wrote_is_rebuilt_once_per_minute() {
    let views = fake();
    views.sums.lock().complete = false;
    let outcomes = a_minute_of_audits(&views).await;
    let outdated = outcomes.iter().filter(|outcome| matches!(outcome, AuditOutcome::Outdated { .. })).count();
    assert_eq!((outdated, would_rebuild(&outcomes)), (1, false));
}

#[tokio::test(start_paused = true)]
async fn steps_that_take_too_long_become_smaller_and_are_rare() {
    let views = fake();
    {
        let (mut sums, today) = (views.sums.lock(), Day::of(NOW).0);
        // Their windows are no longer kept.
        for day in today - 38..today - 8 {
            sums.committed.insert(Day(day), 3);
            for key in [(Family::Kinds, 0), (Family::Days, day)] {
                *sums.added.entry(key).or_insert(0) += 3;
                *sums.held.entry(key).or_insert(0) += 3;
            }
        }
    }
    views.readable.store(4, Ordering::Relaxed);
    let outcomes = audits(&views, Duration::from_secs(4 * 3_600)).await;
    let timeouts = views.timeouts.load(Ordering::Relaxed);
    assert!((2..30).contains(&timeouts), "{timeouts} in four hours");
    assert_eq!(*views.read_until.lock(), Day(i64::MAX), "all days were read");
    assert!(outcomes.len() > 1_000 && !would_rebuild(&outcomes));
}
