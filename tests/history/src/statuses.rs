//! A final status stays, unless it may have been revoked.

use crate::{History, Interval, Status, Violation};

/// Checks the statuses of every source.
pub(crate) fn check(history: &History) -> Vec<Violation> {
    let sources = history.statuses.iter();
    sources.flat_map(|(source, read)| check_source(history, source, read)).collect()
}

/// Compares each open status with the final one that had ended last before it began.
fn check_source(history: &History, source: &str, read: &[(Interval, Status)]) -> Vec<Violation> {
    let revocations = history.revocations.get(source).map(Vec::as_slice).unwrap_or_default();
    let mut finals: Vec<_> = read.iter().filter(|(_, status)| *status == Status::Final).map(|(at, _)| *at).collect();
    finals.sort_by_key(|at| at.ended);
    let open = read.iter().filter(|(_, status)| *status == Status::Open).map(|(at, _)| *at);
    open.filter_map(|at| {
        let last = finals.partition_point(|was_final| was_final.ended < at.began).checked_sub(1)?;
        let was_final = finals.get(last).copied()?;
        // One that was sent before the final status was read may have taken effect later.
        let revoked = revocations.iter().any(|began| *began <= at.ended);
        (!revoked).then(|| Violation::StatusChanged { source: source.into(), was_final, at })
    })
    .collect()
}
