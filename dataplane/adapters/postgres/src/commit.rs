//! The commit: one statement does everything or nothing. It has two modes.
//!
//! - **Optimistic**: every event is assumed to be new. The counts are added up here, and the server only writes. An id that is
//!   already stored makes the statement fail without effect. All ids have the same day, so that one parameter names it: Postgres would decode
//!   an array for each row.
//! - **Checked**: the server finds out which events are new. This costs half as much again. It follows a failed optimistic commit, and commits
//!   ids of several days.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Postgres, postgres::PgArguments, query::Query};
use uuid::Uuid;

use super::{days::day_column, millis};
use ping_core::{Event, Millis};
use ping_ports::Batch;
use ping_sql::{BatchCounts, outbox_payload};

/// Commits in checked mode after a failed optimistic one: clients that repeat an event usually repeat several.
const CHECKED_COMMITS_AFTER_KNOWN_ID: u32 = 32;

/// Statements for batches without sources and kinds (the usual case: half the columns) and for all others.
const OPTIMISTIC_PLAIN: &str = include_str!("sql/commit_optimistic_plain.sql");
const OPTIMISTIC_NAMED: &str = include_str!("sql/commit_optimistic_named.sql");
const CHECKED_PLAIN: &str = include_str!("sql/commit_checked_plain.sql");
const CHECKED_NAMED: &str = include_str!("sql/commit_checked_named.sql");

/// The row that the statement returns, unless the writer is closed: when the commit began, and the ids that were known.
pub(super) type Outcome = (Millis, Option<Vec<Uuid>>);

/// How a batch is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitMode {
    Optimistic {
        /// The column `id_day` of all events.
        day: i32,
    },
    Checked,
}

/// Chooses the mode of each commit. Holds how many checked commits are still due.
#[derive(Debug, Default)]
pub(super) struct CommitModeSelector(AtomicU32);

impl CommitModeSelector {
    /// The mode of the next commit, of `batch`.
    pub(super) fn next_mode(&self, batch: &Batch) -> CommitMode {
        let Some(day) = only_day(&batch.events) else { return CommitMode::Checked };
        let decrement = |remaining: u32| remaining.checked_sub(1);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, decrement) {
            Ok(_) => CommitMode::Checked,
            Err(_) => CommitMode::Optimistic { day },
        }
    }

    /// An optimistic commit met a known id.
    pub(super) fn use_checked(&self) {
        self.0.store(CHECKED_COMMITS_AFTER_KNOWN_ID, Ordering::Relaxed);
    }
}

/// The column `id_day` of `events`, if it is the same for all.
fn only_day(events: &[Event]) -> Option<i32> {
    let (first, others) = events.split_first()?;
    let day = day_column(first.id);
    others.iter().all(|event| day_column(event.id) == day).then_some(day)
}

type CommitQuery = Query<'static, Postgres, PgArguments>;

/// The statement that commits `batch`, with its parameters. Their order is that of the `.sql` files.
pub(super) fn statement(batch: &Batch, mode: CommitMode) -> Result<CommitQuery, TooManyPartitions> {
    let events = by_id(&batch.events);
    let plain = events.iter().all(|event| event.source.is_empty() && event.kind.is_empty());
    let text = match (mode, plain) {
        (CommitMode::Optimistic { .. }, true) => OPTIMISTIC_PLAIN,
        (CommitMode::Optimistic { .. }, false) => OPTIMISTIC_NAMED,
        (CommitMode::Checked, true) => CHECKED_PLAIN,
        (CommitMode::Checked, false) => CHECKED_NAMED,
    };
    let mut query = bind_batch(sqlx::query(text), batch)?;
    query = bind_events(query, &events);
    match mode {
        CommitMode::Optimistic { day } => {
            let counts = BatchCounts::of(batch.events.iter());
            query = bind_counts(query, &counts);
            if !plain {
                query = bind_names(query, &events);
                query = query.bind(counts.rollups.values().map(|rollup| rollup.attributed).collect::<Vec<_>>());
            }
            Ok(query.bind(day))
        }
        CommitMode::Checked => {
            if !plain {
                query = bind_names(query, &events);
            }
            Ok(query.bind(events.iter().map(|event| day_column(event.id)).collect::<Vec<_>>()))
        }
    }
}

/// Binds $1 to $7: the writer's new position and the outbox row.
fn bind_batch(query: CommitQuery, batch: &Batch) -> Result<CommitQuery, TooManyPartitions> {
    let partitions = i32::try_from(batch.partitions).map_err(|_| TooManyPartitions(batch.partitions))?;
    Ok(query
        .bind(batch.writer.0)
        .bind(batch.first_seq)
        .bind(batch.last_seq())
        .bind(millis(batch.lease))
        .bind(partitions)
        .bind(batch.partition)
        .bind(outbox_payload::encode(&batch.events)))
}

/// Binds $8 and $9: ids and timestamps.
fn bind_events(query: CommitQuery, events: &[&Event]) -> CommitQuery {
    query
        .bind(events.iter().map(|event| event.id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.timestamp_ms).collect::<Vec<_>>())
}

/// Binds the next five, in optimistic mode only: counts per millisecond, and rollups.
fn bind_counts(query: CommitQuery, counts: &BatchCounts) -> CommitQuery {
    query
        .bind(counts.per_millisecond.keys().copied().collect::<Vec<_>>())
        .bind(counts.per_millisecond.values().map(|events| events.count).collect::<Vec<_>>())
        .bind(counts.rollups.keys().map(|(width, _)| *width).collect::<Vec<_>>())
        .bind(counts.rollups.keys().map(|(_, bucket)| *bucket).collect::<Vec<_>>())
        .bind(counts.rollups.values().map(|rollup| rollup.count).collect::<Vec<_>>())
}

/// Binds the next two: sources and kinds. In optimistic mode, the events with a source in each rollup follow. The day or days of the ids are last.
fn bind_names(query: CommitQuery, events: &[&Event]) -> CommitQuery {
    query
        .bind(events.iter().map(|event| event.source.to_string()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.kind.to_string()).collect::<Vec<_>>())
}

/// Kafka numbers partitions with 32-bit signed integers, so no topic has this many.
#[derive(Debug, thiserror::Error)]
#[error("{0} partitions are more than a topic can have")]
pub(super) struct TooManyPartitions(u32);

/// Sorted by id: two lanes with the same ids then wait for each other in one direction only, and the index is written from left
/// to right.
fn by_id(events: &[Event]) -> Vec<&Event> {
    let mut events: Vec<_> = events.iter().collect();
    if !events.is_sorted_by_key(|event| event.id) {
        events.sort_unstable_by_key(|event| event.id);
    }
    events
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc, time::Duration};

    use ping_core::WriterId;

    use super::*;

    fn batch(ids: &[u128]) -> Batch {
        let event = |id: &u128| Event {
            id: Uuid::from_u128(*id),
            timestamp_ms: 0,
            timestamp_assumed: false,
            source: "".into(),
            kind: "".into(),
        };
        let events = Arc::new(ids.iter().map(event).collect());
        Batch { writer: WriterId(1), first_seq: 1, events, partitions: 1, partition: 0, lease: Duration::ZERO }
    }

    #[test]
    fn a_known_id_makes_the_next_commits_checked() {
        let (commit_mode, batch) = (CommitModeSelector::default(), batch(&[1, 2]));
        let optimistic = CommitMode::Optimistic { day: -1 };
        assert_eq!(commit_mode.next_mode(&batch), optimistic);
        commit_mode.use_checked();
        assert!((0..CHECKED_COMMITS_AFTER_KNOWN_ID).all(|_| commit_mode.next_mode(&batch) == CommitMode::Checked));
        assert_eq!(commit_mode.next_mode(&batch), optimistic);
    }

    #[test]
    fn ids_of_several_days_are_committed_in_checked_mode() {
        let commit_mode = CommitModeSelector::default();
        let at = |day: u64| Uuid::from_u64_pair((day * 86_400_000) << 16 | 0x7000, 0x8000 << 48).as_u128();
        assert_eq!(
            commit_mode.next_mode(&batch(&[at(20_777), at(20_777) + 1])),
            CommitMode::Optimistic { day: 20_777 }
        );
        for ids in [[at(20_777), at(20_778)], [at(20_777), 1], [1, at(20_777)]] {
            assert_eq!(commit_mode.next_mode(&batch(&ids)), CommitMode::Checked);
        }
    }

    /// Every parameter that the code binds has a place in the statement, and the other way round.
    #[test]
    fn statements_have_as_many_parameters_as_are_bound() {
        for (text, parameters) in
            [(OPTIMISTIC_PLAIN, 15), (OPTIMISTIC_NAMED, 18), (CHECKED_PLAIN, 10), (CHECKED_NAMED, 12)]
        {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("--"));
            let numbers = code.flat_map(|line| line.split('$').skip(1)).map(|rest| {
                let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
                digits.parse().unwrap()
            });
            assert_eq!(numbers.collect::<BTreeSet<i32>>(), (1..=parameters).collect(), "{text}");
        }
    }
}
