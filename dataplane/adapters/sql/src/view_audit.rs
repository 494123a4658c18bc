//! Rows of the audit of the views.

use std::collections::BTreeMap;

use ping_core::{Day, Generation, Millis};
use ping_ports::{Incarnation, IncarnationChange, PeriodSums, StoreError, ViewAuditState, ViewSums};
use ping_segments::{AuditedSegment, Family, Segment, StoredSegment};

use super::segment_row::{family, place};

/// Generation, `as_of`, time after reading, and one sum: of which account (0 what is committed, 1 what checkpoints have added, 2 what segments
/// hold), family, period, events, and whether a program of an earlier version has added to it. The last five are null without a sum.
pub type AccountRow = (Generation, Millis, Millis, Option<i32>, Option<i16>, Option<i64>, Option<i64>, Option<bool>);

/// Number, family, node, period, data, sum and digest.
pub type AuditedRow = (i64, i16, i32, i64, Vec<u8>, i64, i64);

/// Whether the views are suspect, when they were last audited, and the last change of an incarnation: its code, when it was noticed, and phantom
/// events.
pub type AuditStateRow = (bool, Option<Millis>, Option<i16>, Millis, i64);

/// The state in `row`.
#[must_use]
pub fn view_audit_state((suspect, last_audit, code, noticed, phantoms): AuditStateRow) -> ViewAuditState {
    // One that is unknown here, which a later version has noted, is not reported.
    let of = code.and_then(Incarnation::of_code);
    ViewAuditState { suspect, last_audit, change: of.map(|of| IncarnationChange { of, noticed, phantoms }) }
}

/// What `segments` add, per family and period. Unique sources do not add up.
#[must_use]
pub fn added_sums(segments: &[Segment]) -> PeriodSums {
    let mut sums = BTreeMap::new();
    for segment in segments.iter().filter(|segment| segment.place.family != Family::Minutes) {
        *sums.entry((segment.place.family, segment.place.period)).or_insert(0) += segment.events;
    }
    sums
}

/// The accounts in `rows`; `None` without rows.
///
/// # Errors
/// When a family is unknown: a later version wrote it.
pub fn view_sums(rows: Vec<AccountRow>) -> Result<Option<ViewSums>, StoreError> {
    let Some((generation, as_of, ..)) = rows.first().cloned() else { return Ok(None) };
    let (committed, added, held) = (BTreeMap::new(), PeriodSums::new(), PeriodSums::new());
    let mut sums = ViewSums { generation, until: 0, as_of, complete: true, committed, added, held };
    for (_, _, until, account, code, period, count, outdated) in rows {
        sums.until = sums.until.max(until);
        let (Some(account), Some(code), Some(period), Some(count)) = (account, code, period, count) else { continue };
        sums.complete &= outdated != Some(true);
        let sum = match account {
            0 => sums.committed.entry(Day(period)).or_insert(0),
            1 => sums.added.entry((family(code)?, period)).or_insert(0),
            _ => sums.held.entry((family(code)?, period)).or_insert(0),
        };
        *sum += count;
    }
    Ok(Some(sums))
}

/// The segments in `rows`.
///
/// # Errors
/// When a family is unknown: a later version wrote it.
pub fn audited_segments(rows: Vec<AuditedRow>) -> Result<Vec<AuditedSegment>, StoreError> {
    let segment = |(id, family, node, period, data, events, digest)| {
        let segment = StoredSegment { id, place: place(family, node, period)?, data };
        Ok(AuditedSegment { segment, events, digest })
    };
    rows.into_iter().map(segment).collect()
}
