//! The commit: one statement does all of it, or nothing. There are two ways to put it. The **bold** one takes every event for
//! new, so the counts are added up here and the server only writes; an id that is known makes it fail, and nothing is done.
//! The **careful** one has the server find out what is new, costs half as much again, and is used when the bold one failed.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Postgres, postgres::PgArguments, query::Query};
use uuid::Uuid;

use super::millis;
use ping_core::{Event, Millis};
use ping_ports::Batch;
use ping_sql::{BatchCounts, outbox_payload};

/// Checked commits after a bold one failed: whoever repeats events rarely repeats one alone.
const CHECKED: u32 = 32;

/// Inserts the events of a batch without a source or a kind: the usual one.
macro_rules! insert_plain {
    () => {
        "INSERT INTO events (id, timestamp_ms)
    SELECT id, at FROM fence, unnest($8::uuid[], $9::bigint[]) AS e (id, at)"
    };
}

/// Inserts the events of any other.
macro_rules! insert_named {
    () => {
        "INSERT INTO events (id, timestamp_ms, source, kind)
    SELECT id, at, nullif(source, ''), nullif(kind, '')
    FROM fence, unnest($8::uuid[], $9::bigint[], $15::text[], $16::text[]) AS e (id, at, source, kind)"
    };
}

/// `fence` is the writer's row if it is open; closing it waits for us. Everything else hangs on it.
macro_rules! bold {
    ($insert:expr) => {
        concat!(
            "WITH fence AS (
    UPDATE writers SET last_seq = $3, total = total + cardinality($8), lease_until = now() + $4 * interval '1 ms'
    WHERE id = $1 AND open RETURNING id AS writer),
inserted AS (",
            $insert,
            "),
counted AS (
    INSERT INTO millisecond_counts (timestamp_ms, count) SELECT at, n FROM fence, unnest($10::bigint[], $11::bigint[]) AS m (at, n)),
rolled AS (
    INSERT INTO rollups AS r (width_minutes, bucket, writer, count, touched_at)
    SELECT width, bucket, writer, n, now()
    FROM fence, unnest($12::int[], $13::bigint[], $14::bigint[]) AS b (width, bucket, n)
    ON CONFLICT (width_minutes, bucket, writer)
    DO UPDATE SET count = r.count + excluded.count, touched_at = excluded.touched_at),
outcome AS MATERIALIZED (
    SELECT writer, floor(extract(epoch FROM now()) * 1000)::bigint AS at, NULL::uuid[] AS known FROM fence),
noted AS (
    INSERT INTO outbox (writer, first_seq, last_seq, partitions, \"partition\", committed_ms, known, payload)
    SELECT writer, $2, $3, $5, $6, at, known, $7 FROM outcome)
SELECT at, known FROM outcome"
        )
    };
}

/// As above, but only what was `inserted` counts; an id that another lane is inserting is waited for.
macro_rules! careful {
    ($insert:expr) => {
        concat!(
            "WITH fence AS MATERIALIZED (SELECT id AS writer FROM writers WHERE id = $1 AND open FOR UPDATE),
inserted AS (",
            $insert,
            "
    ON CONFLICT (id) DO NOTHING RETURNING id, timestamp_ms),
fresh AS MATERIALIZED (SELECT timestamp_ms AS at, count(*) AS n FROM inserted GROUP BY 1),
counted AS (INSERT INTO millisecond_counts (timestamp_ms, count) SELECT at, n FROM fresh),
rolled AS (
    INSERT INTO rollups AS r (width_minutes, bucket, writer, count, touched_at)
    SELECT 1, at / 60000, $1, sum(n)::bigint, now() FROM fresh GROUP BY 2
    UNION ALL SELECT 1440, at / 86400000, $1, sum(n)::bigint, now() FROM fresh GROUP BY 2
    ON CONFLICT (width_minutes, bucket, writer)
    DO UPDATE SET count = r.count + excluded.count, touched_at = excluded.touched_at),
sums AS MATERIALIZED (SELECT coalesce(sum(n), 0)::bigint AS n FROM fresh),
moved AS (
    UPDATE writers w SET last_seq = $3, total = w.total + (SELECT n FROM sums), lease_until = now() + $4 * interval '1 ms'
    FROM fence WHERE w.id = fence.writer),
outcome AS MATERIALIZED (
    SELECT writer, floor(extract(epoch FROM now()) * 1000)::bigint AS at,
        CASE WHEN (SELECT n FROM sums) < cardinality($8)
            THEN ARRAY(SELECT unnest($8) EXCEPT SELECT id FROM inserted) END AS known
    FROM fence),
noted AS (
    INSERT INTO outbox (writer, first_seq, last_seq, partitions, \"partition\", committed_ms, known, payload)
    SELECT writer, $2, $3, $5, $6, at, known, $7 FROM outcome)
SELECT at, known FROM outcome"
        )
    };
}

const OPTIMISTIC_PLAIN: &str = bold!(insert_plain!());
const OPTIMISTIC_NAMED: &str = bold!(insert_named!());
const CHECKED_PLAIN: &str = careful!(insert_plain!());
const CHECKED_NAMED: &str = careful!(insert_named!());

/// What the statement answers, unless the writer is closed: when it began, and which ids were known.
pub(super) type Outcome = (Millis, Option<Vec<Uuid>>);

/// How to put a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitMode {
    Optimistic,
    Checked,
}

/// Which manner is due.
#[derive(Debug, Default)]
pub(super) struct CommitModeSelector(AtomicU32);

impl CommitModeSelector {
    pub(super) fn manner(&self) -> CommitMode {
        let less = |careful: u32| careful.checked_sub(1);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => CommitMode::Checked,
            Err(_) => CommitMode::Optimistic,
        }
    }

    /// A bold commit met an id that is known.
    pub(super) fn use_checked(&self) {
        self.0.store(CHECKED, Ordering::Relaxed);
    }
}

/// The statement with everything it needs.
pub(super) fn statement(batch: &Batch, manner: CommitMode) -> Query<'static, Postgres, PgArguments> {
    let events = by_id(&batch.events);
    let plain = events.iter().all(|event| event.source.is_empty() && event.kind.is_empty());
    let counts = BatchCounts::of(batch.events.iter());
    let query = sqlx::query(match (manner, plain) {
        (CommitMode::Optimistic, true) => OPTIMISTIC_PLAIN,
        (CommitMode::Optimistic, false) => OPTIMISTIC_NAMED,
        (CommitMode::Checked, true) => CHECKED_PLAIN,
        (CommitMode::Checked, false) => CHECKED_NAMED,
    });
    let query = query
        .bind(batch.writer.0)
        .bind(batch.first_seq)
        .bind(batch.last_seq())
        .bind(millis(batch.lease))
        .bind(i32::try_from(batch.partitions).unwrap_or(i32::MAX))
        .bind(batch.partition)
        .bind(outbox_payload::encode(&batch.events))
        .bind(events.iter().map(|event| event.id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.timestamp_ms).collect::<Vec<_>>())
        .bind(counts.per_millisecond.keys().copied().collect::<Vec<_>>())
        .bind(counts.per_millisecond.values().copied().collect::<Vec<_>>())
        .bind(counts.rollups.keys().map(|(width, _)| *width).collect::<Vec<_>>())
        .bind(counts.rollups.keys().map(|(_, bucket)| *bucket).collect::<Vec<_>>())
        .bind(counts.rollups.values().copied().collect::<Vec<_>>());
    if plain {
        return query;
    }
    query
        .bind(events.iter().map(|event| event.source.to_string()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.kind.to_string()).collect::<Vec<_>>())
}

/// In the order of their ids: two lanes with the same ids then wait for each other in one direction only, and the index is
/// written from left to right.
fn by_id(events: &[Event]) -> Vec<&Event> {
    let mut events: Vec<_> = events.iter().collect();
    if !events.is_sorted_by_key(|event| event.id) {
        events.sort_unstable_by_key(|event| event.id);
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_makes_the_next_commits_careful() {
        let commit_mode = CommitModeSelector::default();
        assert_eq!(commit_mode.manner(), CommitMode::Optimistic);
        commit_mode.use_checked();
        assert!((0..CHECKED).all(|_| commit_mode.manner() == CommitMode::Checked));
        assert_eq!(commit_mode.manner(), CommitMode::Optimistic);
    }
}
