//! The commit: one statement does all of it, or nothing.

use sqlx::{Postgres, postgres::PgArguments, query::Query};
use uuid::Uuid;

use super::millis;
use crate::{
    adapters::outbox_payload,
    domain::{Event, Millis},
    ports::Batch,
};

/// The statement, around the part that reads the events. What it does, in its order of dependence:
/// `fence` locks the writer's row while it is open, so closing waits for us or we find it closed;
/// `inserted` are the events that were new; an id being inserted by another lane is waited for;
/// `rolled`, `moved` and `noted` add them to the rollups, to the writer and to the outbox.
/// Its one row says when it began and which ids were known; a closed writer gets no row.
macro_rules! commit {
    ($columns:literal, $events:literal) => {
        concat!(
            "WITH fence AS MATERIALIZED (SELECT id AS writer FROM writers WHERE id = $1 AND open FOR UPDATE),
inserted AS (
    INSERT INTO events (", $columns, ")
    SELECT ", $columns, " FROM fence, ", $events, "
    ON CONFLICT (id) DO NOTHING RETURNING id, occurred_ms),
minutes AS MATERIALIZED (
    SELECT occurred_ms / 60000 AS minute, count(*) AS n FROM inserted GROUP BY 1),
rolled AS (
    INSERT INTO rollups AS r (width_minutes, bucket, writer, count, touched_at)
    SELECT 1, minute, $1, n, now() FROM minutes
    UNION ALL SELECT 1440, minute / 1440, $1, sum(n)::bigint, now() FROM minutes GROUP BY 2
    ON CONFLICT (width_minutes, bucket, writer)
    DO UPDATE SET count = r.count + excluded.count, touched_at = excluded.touched_at),
sums AS MATERIALIZED (SELECT coalesce(sum(n), 0)::bigint AS n FROM minutes),
moved AS (
    UPDATE writers w SET last_seq = $5, total = w.total + (SELECT n FROM sums), lease_until = now() + $6 * interval '1 ms'
    FROM fence WHERE w.id = fence.writer),
outcome AS MATERIALIZED (
    SELECT floor(extract(epoch FROM now()) * 1000)::bigint AS at,
        CASE WHEN (SELECT n FROM sums) < cardinality($2)
            THEN ARRAY(SELECT unnest($2) EXCEPT SELECT id FROM inserted) END AS known
    FROM fence),
noted AS (
    INSERT INTO outbox (writer, first_seq, last_seq, partitions, \"partition\", committed_ms, known, payload)
    SELECT $1, $4, $5, $7, $8, at, known, $9 FROM outcome)
SELECT at, known FROM outcome"
        )
    };
}

/// For batches without a source or a kind: the usual ones.
const PLAIN: &str = commit!("id, occurred_ms", "unnest($2::uuid[], $3::bigint[]) AS e (id, occurred_ms)");
const NAMED: &str = commit!(
    "id, occurred_ms, source, kind",
    "(SELECT id, occurred_ms, nullif(source, '') AS source, nullif(kind, '') AS kind
      FROM unnest($2::uuid[], $3::bigint[], $10::text[], $11::text[]) AS e (id, occurred_ms, source, kind)) AS e"
);

/// What the statement answers.
pub(super) type Outcome = (Millis, Option<Vec<Uuid>>);

/// The statement with everything it needs.
pub(super) fn statement(batch: &Batch) -> Query<'static, Postgres, PgArguments> {
    let events = by_id(&batch.events);
    let plain = events.iter().all(|event| event.source.is_empty() && event.kind.is_empty());
    let query = sqlx::query(if plain { PLAIN } else { NAMED })
        .bind(batch.writer.0)
        .bind(events.iter().map(|event| event.id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.at).collect::<Vec<_>>())
        .bind(batch.first_seq)
        .bind(batch.last_seq())
        .bind(millis(batch.lease))
        .bind(i32::try_from(batch.partitions).unwrap_or(i32::MAX))
        .bind(batch.partition)
        .bind(outbox_payload::encode(&batch.events));
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
