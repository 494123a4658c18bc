//! The audit of the views per source. Three accounts must agree: what commits have added to the rollups of events with a source, what
//! checkpoints have added to the views, and what the segments hold. The first two are compared between two looks, as in the audit of the
//! cache; the last two change together, so they are equal in every look.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ping_core::{Day, Generation, Millis, RetentionCutoffs};
use ping_segments::{AuditedSegment, Family};

use super::{
    audit::{Differences, Drift},
    incarnations::IncarnationChange,
    store::StoreError,
};

/// Events per family and period.
pub type PeriodSums = BTreeMap<(Family, i64), i64>;

/// The accounts of the views, from one consistent look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewSums {
    /// The generation of the views.
    pub generation: Generation,
    /// Store time, taken after reading: every event in `committed` was committed by then.
    pub until: Millis,
    /// Every event acknowledged before this time is in the views.
    pub as_of: Millis,
    /// False when a program of an earlier version wrote segments or commits without their sums since the last rebuild: only a rebuild
    /// makes the accounts comparable.
    pub complete: bool,
    /// Events with a source that are committed, per day.
    pub committed: BTreeMap<Day, i64>,
    /// What checkpoints and the last rebuild have added, without unique sources, which do not add up.
    pub added: PeriodSums,
    /// What the segments hold, according to the sums beside them.
    pub held: PeriodSums,
}

/// Tables for SQL and the views differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowDifference {
    /// Rows of windows or of days.
    pub family: Family,
    /// The day of the rows.
    pub day: Day,
    /// Events that checkpoints have added.
    pub added: i64,
    /// Events in the rows.
    pub held: i64,
}

impl RowDifference {
    /// The difference as drift.
    #[must_use]
    pub fn drift(differing: &[Self]) -> Option<Drift> {
        let mut differences = Differences::default();
        for RowDifference { family, day, added, held } in differing {
            differences.check(*added, *held, *added, || format!("rows of {}", period_name(*family, day.0)));
        }
        differences.drift()
    }
}

/// What is known about the views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewAuditState {
    /// An audit found a difference, and none has found the views equal since.
    pub suspect: bool,
    /// When an audit last found the views equal to the committed events; `None` before the first audit.
    pub last_audit: Option<Millis>,
    /// The last change of an incarnation; `None` before the first.
    pub change: Option<IncarnationChange>,
}

/// Reads what an audit of the views compares, and keeps its result.
#[async_trait]
pub trait ViewAudit: Send + Sync {
    /// The accounts; `None` when the views were never built. Reads about one index entry per segment.
    async fn view_sums(&self) -> Result<Option<ViewSums>, StoreError>;

    /// The segments with numbers above `after`, in order, at most `limit`.
    async fn audited_segments(&self, after: i64, limit: usize) -> Result<Vec<AuditedSegment>, StoreError>;

    /// Days from `from` to before `to` whose rows for SQL differ from what checkpoints have added. Days whose rows are not complete yet
    /// are left out.
    async fn differing_rows(&self, from: Day, to: Day) -> Result<Vec<RowDifference>, StoreError>;

    /// Notes that an audit found a difference in `generation`. Does nothing when the views are of another generation. A rebuild does not change
    /// the note; the next audit that finds no difference does.
    async fn mark_views_suspect(&self, generation: &Generation) -> Result<(), StoreError>;

    /// Notes that an audit that ended at `at` found `generation` equal. Does nothing when the views are of another generation.
    async fn views_audited(&self, generation: &Generation, at: Millis) -> Result<(), StoreError>;

    /// What is known about the views.
    async fn view_audit_state(&self) -> Result<ViewAuditState, StoreError>;
}

/// What a period is called in words.
fn period_name(family: Family, period: i64) -> String {
    match family {
        Family::Kinds => "kinds".into(),
        Family::Windows => format!("windows of day {period}"),
        Family::Days => format!("day {period}"),
        Family::Minutes => format!("sources of minute {period}"),
    }
}

/// Compares the accounts in `now`, and with the commits in `before`, an earlier look. Days at the edge of `cutoffs` are ignored: they are
/// being deleted. `None` when they agree.
#[must_use]
pub fn compare_views(before: Option<&ViewSums>, now: &ViewSums, cutoffs: RetentionCutoffs) -> Option<Drift> {
    let kept = |family, period| match family {
        Family::Kinds => true,
        Family::Windows => Day(period) > cutoffs.windows,
        Family::Days => cutoffs.days == Day(0) || Day(period) > cutoffs.days,
        Family::Minutes => false,
    };
    let sum = |sums: &PeriodSums, key| sums.get(&key).copied().unwrap_or(0);
    let mut differences = Differences::default();
    let mut places: Vec<_> = now.added.keys().chain(now.held.keys()).copied().collect();
    places.sort_unstable();
    places.dedup();
    for (family, period) in places.into_iter().filter(|(family, period)| kept(*family, *period)) {
        let (added, held) = (sum(&now.added, (family, period)), sum(&now.held, (family, period)));
        differences.check(added, held, added, || format!("segments of {}", period_name(family, period)));
    }
    // Only views that have counted everything in the earlier look can be compared with it.
    let before = before.filter(|before| now.as_of > before.until);
    let at_least = |day| before.and_then(|before| before.committed.get(&day)).copied().unwrap_or(0);
    let total = (now.committed.keys().map(|day| at_least(*day)).sum(), now.committed.values().sum());
    differences.check(total.0, sum(&now.added, (Family::Kinds, 0)), total.1, || "views of all kinds".into());
    let mut days: Vec<_> = now.committed.keys().copied().collect();
    days.extend(now.added.keys().filter(|(family, _)| *family != Family::Kinds).map(|(_, period)| Day(*period)));
    days.sort_unstable();
    days.dedup();
    for day in days {
        let (low, high) = (at_least(day), now.committed.get(&day).copied().unwrap_or(0));
        for family in [Family::Windows, Family::Days].into_iter().filter(|family| kept(*family, day.0)) {
            let added = sum(&now.added, (family, day.0));
            differences.check(low, added, high, || format!("views of {}", period_name(family, day.0)));
        }
    }
    differences.drift()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ping_core::Retention;

    const DAY: Day = Day(20_000);

    fn cutoffs() -> RetentionCutoffs {
        Retention { windows: 2, days: Some(3) }.at(DAY.start() + 1)
    }

    /// Views that agree, with `count` events today.
    fn sums(count: i64, as_of: Millis) -> ViewSums {
        let added: PeriodSums =
            [((Family::Kinds, 0), count), ((Family::Windows, DAY.0), count), ((Family::Days, DAY.0), count)].into();
        ViewSums {
            generation: "g".into(),
            until: 100,
            as_of,
            complete: true,
            committed: [(DAY, count)].into(),
            held: added.clone(),
            added,
        }
    }

    #[test]
    fn equal_accounts_agree() {
        assert_eq!(compare_views(None, &sums(5, 0), cutoffs()), None);
        assert_eq!(compare_views(Some(&sums(5, 0)), &sums(5, 101), cutoffs()), None);
    }

    #[test]
    fn a_segment_that_was_lost_or_merged_twice_is_found() {
        for held in [0, 4, 10] {
            let mut now = sums(5, 0);
            now.held.insert((Family::Windows, DAY.0), held);
            let drift = compare_views(None, &now, cutoffs()).unwrap();
            assert_eq!((drift.events, drift.differences.len()), ((held - 5).abs(), 1), "{drift:?}");
        }
        let mut gone = sums(5, 0);
        gone.held.remove(&(Family::Kinds, 0));
        assert!(compare_views(None, &gone, cutoffs()).is_some());
    }

    #[test]
    fn an_event_that_was_counted_twice_is_found_at_once_and_a_lost_one_once_it_must_be_counted() {
        let committed = |count, as_of| ViewSums { committed: [(DAY, count)].into(), ..sums(5, as_of) };
        assert_eq!(compare_views(None, &committed(4, 0), cutoffs()).map(|drift| drift.events), Some(3));
        let before = committed(6, 0);
        assert_eq!(compare_views(Some(&before), &committed(6, 100), cutoffs()), None);
        assert_eq!(compare_views(Some(&before), &committed(6, 101), cutoffs()).map(|drift| drift.events), Some(3));
        assert_eq!(compare_views(Some(&sums(5, 0)), &committed(9, 101), cutoffs()), None);
    }

    #[test]
    fn days_that_are_being_deleted_are_ignored() {
        let mut now = sums(5, 101);
        now.committed.insert(Day(DAY.0 - 3), 2);
        *now.added.get_mut(&(Family::Kinds, 0)).unwrap() += 2;
        *now.held.get_mut(&(Family::Kinds, 0)).unwrap() += 2;
        assert_eq!(compare_views(Some(&now), &now, cutoffs()), None);
        now.held.insert((Family::Days, DAY.0 - 3), 2);
        assert_eq!(compare_views(Some(&now), &now, cutoffs()), None);
    }

    #[test]
    fn rows_that_differ_are_described() {
        assert_eq!(RowDifference::drift(&[]), None);
        let differing = RowDifference { family: Family::Days, day: DAY, added: 5, held: 7 };
        let drift = RowDifference::drift(&[differing]).unwrap();
        assert_eq!((drift.events, drift.differences.len()), (2, 1));
        assert!(drift.differences[0].contains("rows of day 20000"), "{drift:?}");
    }
}
