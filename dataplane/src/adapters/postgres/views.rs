//! The views per source. One statement adds counts and moves positions, fenced by the rows of the positions themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, Connection, FromRow, PgConnection};
use tokio::time::timeout;

use super::PostgresStore;
use crate::{
    domain::{Day, Generation, Mark, Marks, Offset, Partition, Positions, Seq, WriterId},
    ports::{Advance, Applied, Kept, SourceCounts, SourceViews, StoreError},
};

/// Reading every row may take this long.
const REBUILD: Duration = Duration::from_secs(60 * 60);
/// Making or dropping a partition waits for whoever reads.
const PATIENCE: Duration = Duration::from_secs(30);
/// Stands for every partition of the log in `source_marks`.
const ALL: Partition = -1;
/// Windows of a day.
const WINDOWS: i64 = 288;

const POSITIONS: &str = "SELECT generation,
    ARRAY(SELECT \"partition\" FROM source_positions ORDER BY 1) AS partitions,
    ARRAY(SELECT next FROM source_positions ORDER BY \"partition\") AS offsets,
    ARRAY(SELECT writer FROM source_marks ORDER BY writer, \"partition\") AS writers,
    ARRAY(SELECT \"partition\" FROM source_marks ORDER BY writer, \"partition\") AS marked,
    ARRAY(SELECT seq FROM source_marks ORDER BY writer, \"partition\") AS seqs
FROM source_views";

/// Partitions that the log has grown by stand at 0, and promise no more than the others do: a row to hold on to.
const GROW: &str = "INSERT INTO source_positions (\"partition\", next, as_of_ms)
SELECT grown, 0, (SELECT coalesce(min(as_of_ms), 0) FROM source_positions)
FROM source_views, unnest($1::int[]) AS g (grown) ON CONFLICT DO NOTHING";

/// `held` are the positions that are as expected, and nobody else's until we are done; only when they are all there anything
/// happens. Rows are written in the order of their keys, so that nobody waits in a circle.
///
/// Nobody waits for the disk: what a crash takes back it takes back with its positions, and the log still has it.
const APPLY: &str = "WITH filling AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true) FROM source_views WHERE generation = $1 FOR SHARE),
expected AS MATERIALIZED (SELECT * FROM unnest($2::int[], $3::bigint[], $4::bigint[]) AS e (\"partition\", at, next)),
held AS MATERIALIZED (
    SELECT p.\"partition\" FROM source_positions p JOIN expected e ON p.\"partition\" = e.\"partition\"
    WHERE p.next = e.at ORDER BY 1 FOR UPDATE OF p),
fence AS MATERIALIZED (SELECT FROM filling WHERE (SELECT count(*) FROM held) = cardinality($2)),
moved AS (
    UPDATE source_positions p SET next = e.next, as_of_ms = greatest(p.as_of_ms, $23) FROM expected e, fence WHERE p.\"partition\" = e.\"partition\"),
marked AS (
    INSERT INTO source_marks AS m (writer, \"partition\", seq)
    SELECT m.* FROM fence, unnest($5::bigint[], $6::int[], $7::bigint[]) AS m
    ON CONFLICT (writer, \"partition\") DO UPDATE SET seq = greatest(m.seq, excluded.seq)),
windows AS (
    INSERT INTO source_windows AS w (source, bucket, count, first_ms, last_ms)
    SELECT w.* FROM fence, unnest($8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[]) AS w
    ON CONFLICT (source, bucket) DO UPDATE SET count = w.count + excluded.count,
        first_ms = least(w.first_ms, excluded.first_ms), last_ms = greatest(w.last_ms, excluded.last_ms)),
days AS (
    INSERT INTO source_days AS d (source, day, count)
    SELECT d.* FROM fence, unnest($13::text[], $14::bigint[], $15::bigint[]) AS d
    ON CONFLICT (source, day) DO UPDATE SET count = d.count + excluded.count),
kinds AS (
    INSERT INTO source_kinds AS k (source, kind, count, first_ms, last_ms)
    SELECT k.* FROM fence, unnest($16::text[], $17::text[], $18::bigint[], $19::bigint[], $20::bigint[]) AS k
    ON CONFLICT (source, kind) DO UPDATE SET count = k.count + excluded.count,
        first_ms = least(k.first_ms, excluded.first_ms), last_ms = greatest(k.last_ms, excluded.last_ms)),
minutes AS (
    INSERT INTO source_minutes (minute, source)
    SELECT m.* FROM fence, unnest($21::bigint[], $22::text[]) AS m ON CONFLICT DO NOTHING)
SELECT EXISTS (SELECT FROM fence)";

/// The lock before the first look: who applies is done by then, and nobody begins. Without the time limit a client that is
/// lost in between would hold it for ever.
const REBUILD_BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";
const REBUILD_LOCK: &str =
    "SET LOCAL idle_in_transaction_session_timeout = '10s'; LOCK TABLE source_views IN EXCLUSIVE MODE";
const CLEAR: [&str; 7] = [
    "DELETE FROM source_views",
    "DELETE FROM source_positions",
    "DELETE FROM source_marks",
    "DELETE FROM source_windows",
    "DELETE FROM source_days",
    "DELETE FROM source_kinds",
    "DELETE FROM source_minutes",
];
const FILL_WINDOWS: &str = "INSERT INTO source_windows (source, bucket, count, first_ms, last_ms)
SELECT source, occurred_ms / 300000, count(*), min(occurred_ms), max(occurred_ms) FROM events
WHERE source IS NOT NULL AND occurred_ms >= $1 GROUP BY 1, 2";
const FILL_DAYS: &str = "INSERT INTO source_days (source, day, count)
SELECT source, occurred_ms / 86400000, count(*) FROM events WHERE source IS NOT NULL AND occurred_ms >= $1 GROUP BY 1, 2";
const FILL_KINDS: &str = "INSERT INTO source_kinds (source, kind, count, first_ms, last_ms)
SELECT source, coalesce(kind, ''), count(*), min(occurred_ms), max(occurred_ms) FROM events
WHERE source IS NOT NULL GROUP BY 1, 2";
const FILL_MINUTES: &str = "INSERT INTO source_minutes (minute, source)
SELECT DISTINCT occurred_ms / 60000, source FROM events WHERE source IS NOT NULL AND occurred_ms >= $1";
const FILL_MARKS: &str =
    "INSERT INTO source_marks (writer, \"partition\", seq) SELECT id, $1, last_seq FROM writers WHERE id <> 0";
const FILL_POSITIONS: &str = "INSERT INTO source_positions (\"partition\", next, as_of_ms)
SELECT p.*, floor(extract(epoch FROM now()) * 1000)::bigint FROM unnest($1::int[], $2::bigint[]) AS p";

/// A writer that was folded long ago has nothing on its way.
const FORGET: &str = "DELETE FROM source_marks m WHERE NOT EXISTS (SELECT FROM writers w WHERE w.id = m.writer)";
const DROP_MINUTES: &str = "DELETE FROM source_minutes WHERE minute < $1";
const DROP_DAYS: &str = "DELETE FROM source_days WHERE day < $1";
const PARTITIONS: &str =
    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'source_windows'::regclass";

#[derive(FromRow)]
struct Stand {
    generation: Generation,
    partitions: Vec<Partition>,
    offsets: Vec<Offset>,
    writers: Vec<i64>,
    marked: Vec<Partition>,
    seqs: Vec<Seq>,
}

impl Stand {
    fn positions(self) -> Positions {
        let mut marks = Marks::default();
        for ((writer, partition), seq) in self.writers.into_iter().zip(self.marked).zip(self.seqs) {
            let mark: &mut Mark = marks.0.entry(WriterId(writer)).or_default();
            if partition == ALL {
                mark.base = seq;
            } else {
                mark.partitions.insert(partition, seq);
            }
        }
        let offsets = self.partitions.into_iter().zip(self.offsets).collect();
        Positions { generation: self.generation, offsets, marks }
    }
}

/// Days whose partition is known to be there.
#[derive(Debug, Default)]
pub(super) struct Covered(Mutex<BTreeSet<Day>>);

/// The partition of a day: `source_windows_20241014`.
fn name(day: Day) -> String {
    // What is no time of jiff's is no day of an event's.
    let start = Timestamp::from_millisecond(day.start()).unwrap_or_default();
    format!("source_windows_{}", start.strftime("%Y%m%d"))
}

impl PostgresStore {
    /// Makes the partitions of `days` that are not there.
    async fn cover(&self, days: impl IntoIterator<Item = Day>) -> Result<(), StoreError> {
        let missing: Vec<_> = {
            let covered = self.covered.0.lock();
            days.into_iter().filter(|day| !covered.contains(day)).collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let make = |day: &Day| {
            let (name, from) = (name(*day), day.0 * WINDOWS);
            let to = from + WINDOWS;
            format!(
                "; CREATE TABLE IF NOT EXISTS {name} PARTITION OF source_windows FOR VALUES FROM ({from}) TO ({to}) WITH (fillfactor = 80)"
            )
        };
        // One at a time: two that make the same table at once would be in each other's way.
        let lock = "SELECT pg_advisory_xact_lock(hashtext('source_windows'))".to_owned();
        let sql: String = std::iter::once(lock).chain(missing.iter().map(make)).collect();
        let mut held = self.writing.take().await?;
        let answer = timeout(PATIENCE, sqlx::raw_sql(AssertSqlSafe(sql)).execute(held.connection())).await;
        held.finish(answer)?;
        self.covered.0.lock().extend(missing);
        Ok(())
    }

    async fn try_apply(&self, advance: &Advance, counts: &SourceCounts) -> Result<bool, StoreError> {
        let partitions: Vec<_> = advance.from.keys().copied().collect();
        let after = |partition| advance.to.get(partition).copied().unwrap_or_default();
        let kinds = &counts.kinds;
        let query = sqlx::query_scalar(APPLY)
            .bind(&advance.generation)
            .bind(&partitions)
            .bind(advance.from.values().copied().collect::<Vec<_>>())
            .bind(advance.from.keys().map(after).collect::<Vec<Offset>>())
            .bind(advance.marks.keys().map(|(writer, _)| writer.0).collect::<Vec<_>>())
            .bind(advance.marks.keys().map(|(_, partition)| *partition).collect::<Vec<_>>())
            .bind(advance.marks.values().copied().collect::<Vec<_>>())
            .bind(counts.windows.keys().map(|(source, _)| &**source).collect::<Vec<_>>())
            .bind(counts.windows.keys().map(|(_, window)| window.0).collect::<Vec<_>>())
            .bind(counts.windows.values().map(|span| span.count).collect::<Vec<_>>())
            .bind(counts.windows.values().map(|span| span.first).collect::<Vec<_>>())
            .bind(counts.windows.values().map(|span| span.last).collect::<Vec<_>>())
            .bind(counts.days.keys().map(|(source, _)| &**source).collect::<Vec<_>>())
            .bind(counts.days.keys().map(|(_, day)| day.0).collect::<Vec<_>>())
            .bind(counts.days.values().copied().collect::<Vec<_>>())
            .bind(kinds.keys().map(|(source, _)| &**source).collect::<Vec<_>>())
            .bind(kinds.keys().map(|(_, kind)| &**kind).collect::<Vec<_>>())
            .bind(kinds.values().map(|span| span.count).collect::<Vec<_>>())
            .bind(kinds.values().map(|span| span.first).collect::<Vec<_>>())
            .bind(kinds.values().map(|span| span.last).collect::<Vec<_>>())
            .bind(counts.minutes.iter().map(|(minute, _)| minute.0).collect::<Vec<_>>())
            .bind(counts.minutes.iter().map(|(_, source)| &**source).collect::<Vec<_>>())
            .bind(advance.as_of.unwrap_or(0));
        let mut held = self.writing.take().await?;
        // A promise is about all partitions, so all of them must have a row.
        let all = 0..advance.as_of.map_or(0, |_| Partition::try_from(advance.partitions).unwrap_or(Partition::MAX));
        let first = advance.from.iter().filter(|(_, at)| **at == 0).map(|(partition, _)| *partition);
        let grown: Vec<_> = first.chain(all).collect();
        let answer = timeout(self.timeout, async {
            if !grown.is_empty() {
                sqlx::query(GROW).bind(grown).execute(held.connection()).await?;
            }
            query.fetch_one(held.connection()).await
        });
        let answer = answer.await;
        Ok(held.finish(answer)?)
    }
}

/// Everything anew, in one transaction; false when somebody else was faster.
async fn rebuild(
    connection: &mut PgConnection,
    seen: Option<&Generation>,
    ends: &BTreeMap<Partition, Offset>,
    kept: Kept,
) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin_with(REBUILD_BEGIN).await?;
    sqlx::raw_sql(REBUILD_LOCK).execute(&mut *transaction).await?;
    let held: Option<Generation> =
        sqlx::query_scalar("SELECT generation FROM source_views").fetch_optional(&mut *transaction).await?;
    if held.as_ref() != seen {
        return Ok(false);
    }
    for clear in CLEAR {
        sqlx::query(clear).execute(&mut *transaction).await?;
    }
    sqlx::query(FILL_WINDOWS).bind(kept.windows.start()).execute(&mut *transaction).await?;
    sqlx::query(FILL_DAYS).bind(kept.days.start()).execute(&mut *transaction).await?;
    sqlx::query(FILL_KINDS).execute(&mut *transaction).await?;
    if let Some(first) = kept.minutes {
        sqlx::query(FILL_MINUTES).bind(first.start()).execute(&mut *transaction).await?;
    }
    sqlx::query(FILL_MARKS).bind(ALL).execute(&mut *transaction).await?;
    let (partitions, offsets): (Vec<Partition>, Vec<Offset>) = ends.iter().map(|(on, end)| (*on, *end)).unzip();
    sqlx::query(FILL_POSITIONS).bind(partitions).bind(offsets).execute(&mut *transaction).await?;
    let generation = kept.generation();
    sqlx::query("INSERT INTO source_views VALUES ($1)").bind(generation).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(true)
}

#[async_trait]
impl SourceViews for PostgresStore {
    async fn positions(&self) -> Result<Option<Positions>, StoreError> {
        let mut held = self.writing.take().await?;
        let query = sqlx::query_as::<_, Stand>(POSITIONS);
        let answer = timeout(self.timeout, query.fetch_optional(held.connection())).await;
        Ok(held.finish(answer)?.map(Stand::positions))
    }

    async fn apply(&self, advance: &Advance, counts: &SourceCounts) -> Result<Applied, StoreError> {
        self.cover(counts.windows.keys().map(|(_, window)| window.day()).collect::<BTreeSet<_>>()).await?;
        match self.try_apply(advance, counts).await {
            Ok(true) => Ok(Applied::Done),
            Ok(false) => Ok(Applied::Stale("the views stand elsewhere".into())),
            Err(error) => {
                // A partition may have been dropped by somebody whose clock is ahead.
                self.covered.0.lock().clear();
                Err(error)
            }
        }
    }

    async fn rebuild(
        &self,
        seen: Option<&Generation>,
        ends: &BTreeMap<Partition, Offset>,
        kept: Kept,
    ) -> Result<bool, StoreError> {
        // An event may be a day ahead of us.
        self.cover((kept.windows.0..=kept.today.0 + 2).map(Day)).await?;
        let mut held = self.writing.take().await?;
        let answer = timeout(REBUILD, rebuild(held.connection(), seen, ends, kept)).await;
        Ok(held.finish(answer)?)
    }

    async fn tidy(&self, kept: Kept) -> Result<(), StoreError> {
        let mut held = self.writing.take().await?;
        let oldest = name(kept.windows);
        let answer = timeout(PATIENCE, async {
            let connection = held.connection();
            sqlx::query(FORGET).execute(&mut *connection).await?;
            sqlx::query(DROP_MINUTES).bind(kept.minutes.map_or(0, |first| first.0)).execute(&mut *connection).await?;
            sqlx::query(DROP_DAYS).bind(kept.days.0).execute(&mut *connection).await?;
            let partitions: Vec<String> = sqlx::query_scalar(PARTITIONS).fetch_all(&mut *connection).await?;
            // Their names are in the order of their days.
            for old in partitions.into_iter().filter(|partition| *partition < oldest) {
                sqlx::raw_sql(AssertSqlSafe(format!("DROP TABLE IF EXISTS {old}"))).execute(&mut *connection).await?;
            }
            Ok(())
        });
        let answer = answer.await;
        held.finish(answer)?;
        self.covered.0.lock().retain(|day| *day >= kept.windows);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Window;

    #[test]
    fn a_days_partition_is_named_after_it() {
        assert_eq!(name(Window::of(1_728_926_331_000).day()), "source_windows_20241014");
    }
}
