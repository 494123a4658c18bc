//! The views per source. Counts and positions change in one transaction.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};

use super::{SqliteStore, begin_write, commit::write, failed};
use ping_core::{
    Day, Generation, Marks, Millis, Minute, Offset, Partition, Positions, RetentionCutoffs, Seq, SourceCounts, Span,
    Window, WriterId,
};
use ping_ports::{Advance, Applied, SourceViews, StoreError, ViewPositions};

/// Stands for every partition of the log in `source_marks`.
const ALL_PARTITIONS: Partition = -1;

const MERGE_SPAN: &str = " ON CONFLICT DO UPDATE SET count = count + excluded.count,
    first_ms = min(first_ms, excluded.first_ms), last_ms = max(last_ms, excluded.last_ms)";
const ADD_COUNT: &str = " ON CONFLICT DO UPDATE SET count = count + excluded.count";
const RAISE_SEQ: &str = " ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)";
const SET_NEXT: &str = " ON CONFLICT DO UPDATE SET next = excluded.next";

// A rebuild adds up the events that have a source with the following statements.
const WINDOWS: &str = "SELECT source, timestamp_ms / 300000, count(*), min(timestamp_ms), max(timestamp_ms) FROM events
WHERE source IS NOT NULL AND timestamp_ms >= $1 GROUP BY 1, 2";
const DAYS: &str = "SELECT source, timestamp_ms / 86400000, count(*) FROM events
WHERE source IS NOT NULL AND timestamp_ms >= $1 GROUP BY 1, 2";
const MINUTES: &str =
    "SELECT DISTINCT timestamp_ms / 60000, source FROM events WHERE source IS NOT NULL AND timestamp_ms >= $1";
const KINDS: &str = "SELECT source, coalesce(kind, ''), count(*), min(timestamp_ms), max(timestamp_ms) FROM events
WHERE source IS NOT NULL GROUP BY 1, 2";

/// The positions of the views.
async fn positions(snapshot: &mut Transaction<'_, Sqlite>) -> Result<Option<ViewPositions>, sqlx::Error> {
    let held =
        sqlx::query_as("SELECT generation, unique_sources FROM source_views").fetch_optional(&mut **snapshot).await?;
    let Some((generation, unique_sources)) = held else { return Ok(None) };
    let offsets: Vec<(Partition, Offset)> =
        sqlx::query_as("SELECT \"partition\", next FROM source_positions").fetch_all(&mut **snapshot).await?;
    let rows: Vec<(i64, Partition, Seq)> =
        sqlx::query_as("SELECT writer, \"partition\", seq FROM source_marks").fetch_all(&mut **snapshot).await?;
    let mut marks = Marks::default();
    for (writer, partition, seq) in rows {
        let mark = marks.0.entry(WriterId(writer)).or_default();
        if partition == ALL_PARTITIONS {
            mark.base = seq;
        } else {
            mark.partitions.insert(partition, seq);
        }
    }
    let positions = Positions { generation, offsets: offsets.into_iter().collect(), marks };
    Ok(Some(ViewPositions { positions, unique_sources }))
}

/// The counts of all rows, and the last number of every writer, from one snapshot.
async fn add_up(
    snapshot: &mut Transaction<'static, Sqlite>,
    cutoffs: RetentionCutoffs,
) -> Result<(SourceCounts, Vec<(i64, Seq)>), sqlx::Error> {
    type Row<K> = (String, K, i64, Millis, Millis);
    let span = |count, first, last| Span { count, first, last };
    let windows: Vec<Row<i64>> =
        sqlx::query_as(WINDOWS).bind(cutoffs.windows.start()).fetch_all(&mut **snapshot).await?;
    let days: Vec<(String, i64, i64)> =
        sqlx::query_as(DAYS).bind(cutoffs.days.start()).fetch_all(&mut **snapshot).await?;
    let kinds: Vec<Row<String>> = sqlx::query_as(KINDS).fetch_all(&mut **snapshot).await?;
    let since = cutoffs.minutes.map_or(Millis::MAX, Minute::start);
    let minutes: Vec<(i64, String)> = sqlx::query_as(MINUTES).bind(since).fetch_all(&mut **snapshot).await?;
    let writers = sqlx::query_as("SELECT id, last_seq FROM writers WHERE id <> 0").fetch_all(&mut **snapshot).await?;
    let counts = SourceCounts {
        windows: windows.into_iter().map(|(s, w, n, a, b)| ((s.into(), Window(w)), span(n, a, b))).collect(),
        days: days.into_iter().map(|(source, day, count)| ((source.into(), Day(day)), count)).collect(),
        kinds: kinds.into_iter().map(|(s, k, n, a, b)| ((s.into(), k.into()), span(n, a, b))).collect(),
        minutes: minutes.into_iter().map(|(minute, source)| (Minute(minute), source.into())).collect(),
    };
    Ok((counts, writers))
}

async fn add(transaction: &mut Transaction<'_, Sqlite>, counts: &SourceCounts) -> Result<(), sqlx::Error> {
    let windows: Vec<_> = counts.windows.iter().collect();
    let into = "INSERT INTO source_windows (source, bucket, count, first_ms, last_ms) ";
    write(transaction, into, &windows, MERGE_SPAN, |row, ((source, window), span)| {
        row.push_bind(source.to_string()).push_bind(window.0);
        row.push_bind(span.count).push_bind(span.first).push_bind(span.last);
    })
    .await?;
    let days: Vec<_> = counts.days.iter().collect();
    write(
        transaction,
        "INSERT INTO source_days (source, day, count) ",
        &days,
        ADD_COUNT,
        |row, ((source, day), count)| {
            row.push_bind(source.to_string()).push_bind(day.0).push_bind(**count);
        },
    )
    .await?;
    let kinds: Vec<_> = counts.kinds.iter().collect();
    let into = "INSERT INTO source_kinds (source, kind, count, first_ms, last_ms) ";
    write(transaction, into, &kinds, MERGE_SPAN, |row, ((source, kind), span)| {
        row.push_bind(source.to_string()).push_bind(kind.to_string());
        row.push_bind(span.count).push_bind(span.first).push_bind(span.last);
    })
    .await?;
    let minutes: Vec<_> = counts.minutes.iter().collect();
    let skip_known = " ON CONFLICT DO NOTHING";
    write(
        transaction,
        "INSERT INTO source_minutes (minute, source) ",
        &minutes,
        skip_known,
        |row, (minute, source)| {
            row.push_bind(minute.0).push_bind(source.to_string());
        },
    )
    .await?;
    Ok(())
}

/// Sets the offsets and raises the marks.
async fn set_positions(
    transaction: &mut Transaction<'_, Sqlite>,
    offsets: &BTreeMap<Partition, Offset>,
    marks: &[(i64, Partition, Seq)],
) -> Result<(), sqlx::Error> {
    let offsets: Vec<_> = offsets.iter().collect();
    let into = "INSERT INTO source_positions (\"partition\", next) ";
    write(transaction, into, &offsets, SET_NEXT, |row, (partition, next)| {
        row.push_bind(**partition).push_bind(**next);
    })
    .await?;
    let into = "INSERT INTO source_marks (writer, \"partition\", seq) ";
    write(transaction, into, marks, RAISE_SEQ, |row, (writer, partition, seq)| {
        row.push_bind(*writer).push_bind(*partition).push_bind(*seq);
    })
    .await?;
    Ok(())
}

/// Raises the watermark of the partitions `on`. A new partition starts with the lowest watermark of the others.
async fn raise_watermark(
    transaction: &mut Transaction<'_, Sqlite>,
    as_of: Millis,
    on: impl Iterator<Item = &Partition>,
    partitions: u32,
) -> Result<(), sqlx::Error> {
    for partition in 0..partitions {
        let grow = "INSERT INTO source_positions (\"partition\", next, as_of_ms)
            SELECT $1, 0, coalesce(min(as_of_ms), 0) FROM source_positions WHERE true ON CONFLICT DO NOTHING";
        sqlx::query(grow).bind(partition).execute(&mut **transaction).await?;
    }
    for partition in on {
        let raise = "UPDATE source_positions SET as_of_ms = max(as_of_ms, $1) WHERE \"partition\" = $2";
        sqlx::query(raise).bind(as_of).bind(*partition).execute(&mut **transaction).await?;
    }
    Ok(())
}

#[async_trait]
impl SourceViews for SqliteStore {
    async fn positions(&self) -> Result<Option<ViewPositions>, StoreError> {
        let (_, mut snapshot) = self.begin_read().await?;
        positions(&mut snapshot).await.map_err(failed)
    }

    async fn apply(&self, advance: &Advance, counts: &SourceCounts) -> Result<Applied, StoreError> {
        let mut writer = self.writer.lock().await;
        let apply = async {
            let mut transaction = begin_write(&mut writer).await?;
            let held = positions(&mut transaction).await?;
            if let Some(why) = advance.refusal(held.as_ref().map(|held| &held.positions)) {
                return Ok(Applied::Stale(why));
            }
            add(&mut transaction, counts).await?;
            let marks: Vec<_> = advance.marks.iter().map(|((writer, on), seq)| (writer.0, *on, *seq)).collect();
            set_positions(&mut transaction, &advance.to, &marks).await?;
            if let Some(as_of) = advance.as_of {
                raise_watermark(&mut transaction, as_of, advance.from.keys(), advance.partitions).await?;
            }
            transaction.commit().await?;
            Ok(Applied::Done)
        };
        apply.await.map_err(failed)
    }

    /// Reads the rows on a connection for reading, so that events can be committed at the same time.
    async fn rebuild(
        &self,
        seen: Option<&Generation>,
        new: &Generation,
        ends: &BTreeMap<Partition, Offset>,
        cutoffs: RetentionCutoffs,
    ) -> Result<bool, StoreError> {
        let (now, mut snapshot) = self.begin_read().await?;
        let (counts, writers) = add_up(&mut snapshot, cutoffs).await.map_err(failed)?;
        drop(snapshot);
        let mut writer = self.writer.lock().await;
        let install = async {
            let mut transaction = begin_write(&mut writer).await?;
            let held: Option<Generation> =
                sqlx::query_scalar("SELECT generation FROM source_views").fetch_optional(&mut *transaction).await?;
            if held.as_ref() != seen {
                return Ok(false);
            }
            for table in ["views", "positions", "marks", "windows", "days", "kinds", "minutes"] {
                let clear = sqlx::AssertSqlSafe(format!("DELETE FROM source_{table}"));
                sqlx::query(clear).execute(&mut *transaction).await?;
            }
            add(&mut transaction, &counts).await?;
            let marks: Vec<_> = writers.into_iter().map(|(writer, seq)| (writer, ALL_PARTITIONS, seq)).collect();
            set_positions(&mut transaction, ends, &marks).await?;
            raise_watermark(&mut transaction, now, ends.keys(), 0).await?;
            let filled = sqlx::query("INSERT INTO source_views (generation, unique_sources) VALUES ($1, $2)");
            filled.bind(new).bind(cutoffs.minutes.is_some()).execute(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(true)
        };
        install.await.map_err(failed)
    }

    async fn apply_retention(&self, cutoffs: RetentionCutoffs) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let apply_retention = async {
            let mut transaction = begin_write(&mut writer).await?;
            let forget = "DELETE FROM source_marks WHERE writer NOT IN (SELECT id FROM writers)";
            sqlx::query(forget).execute(&mut *transaction).await?;
            let windows = sqlx::query("DELETE FROM source_windows WHERE bucket < $1");
            windows.bind(Window::of(cutoffs.windows.start()).0).execute(&mut *transaction).await?;
            let minutes = sqlx::query("DELETE FROM source_minutes WHERE minute < $1");
            minutes.bind(cutoffs.minutes.map_or(0, |first| first.0)).execute(&mut *transaction).await?;
            let days = sqlx::query("DELETE FROM source_days WHERE day < $1");
            days.bind(cutoffs.days.0).execute(&mut *transaction).await?;
            transaction.commit().await
        };
        apply_retention.await.map_err(failed)
    }
}
