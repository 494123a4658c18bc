//! The views per source. Counts and positions change in one transaction.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::{Sqlite, Transaction};

use super::{
    SqliteStore, begin_write,
    commit::write,
    event_retention::{add_dropped, base},
    failed,
    segments::{delete, insert},
    view_audit::{add_sums, fill_unattributed, unattributed},
};
use ping_core::{
    Day, Generation, Marks, Millis, Offset, Partition, Positions, RetentionCutoffs, Seq, WriterId, ahead_of_store,
};
use ping_ports::{Advance, Applied, Outbox, SourceViews, StoreError, ViewPositions};
use ping_segments::{Changes, Family, FormatError, Place, Segment, StoredSegment};

/// Stands for every partition of the log in `source_marks`.
const ALL_PARTITIONS: Partition = -1;

const RAISE_SEQ: &str = " ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)";
const SET_NEXT: &str = " ON CONFLICT DO UPDATE SET next = excluded.next";

/// What the views are rebuilt from.
const EVENTS: &str = "SELECT source, coalesce(kind, ''), timestamp_ms FROM events WHERE source IS NOT NULL";
/// Memory of the events that a rebuild sums at once, in bytes.
const REBUILD_BYTES: usize = 32 << 20;

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

fn unreadable(error: FormatError) -> StoreError {
    StoreError(error.into())
}

/// What a rebuild writes.
struct AddedUp {
    segments: Vec<Segment>,
    /// The last number of every writer.
    writers: Vec<(i64, Seq)>,
    /// Events with a source, per day, that the rollups lack.
    unattributed: Vec<(Day, i64)>,
}

/// Adds up all events, also those whose rows were dropped, from one snapshot.
async fn add_up(snapshot: &mut Transaction<'static, Sqlite>, cutoffs: RetentionCutoffs) -> Result<AddedUp, StoreError> {
    let (mut segments, mut changes, mut per_day) = (Vec::new(), Changes::default(), BTreeMap::new());
    let mut events = sqlx::query_as::<_, (String, String, Millis)>(EVENTS).fetch(&mut **snapshot);
    while let Some((source, kind, timestamp_ms)) = events.try_next().await.map_err(failed)? {
        *per_day.entry(Day::of(timestamp_ms)).or_insert(0) += 1;
        changes.add(&source, &kind, timestamp_ms);
        if changes.bytes() >= REBUILD_BYTES {
            for segment in std::mem::take(&mut changes).segments(cutoffs) {
                segments.push(segment.map_err(unreadable)?);
            }
        }
    }
    drop(events);
    for segment in changes.segments(cutoffs) {
        segments.push(segment.map_err(unreadable)?);
    }
    segments.extend(base(snapshot, cutoffs).await?);
    add_dropped(snapshot, &mut per_day).await?;
    let writers = sqlx::query_as("SELECT id, last_seq FROM writers WHERE id <> 0").fetch_all(&mut **snapshot).await;
    let unattributed = unattributed(snapshot, per_day).await.map_err(failed)?;
    Ok(AddedUp { segments, writers: writers.map_err(failed)?, unattributed })
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

    async fn apply(&self, advance: &Advance, segments: &[Segment]) -> Result<Applied, StoreError> {
        // Before the transaction: no file is restored while a process has opened it.
        let writers: Vec<_> = advance.writers().map(|(writer, _)| writer).collect();
        if let Some(ahead) = ahead_of_store(advance.writers(), &self.last_seqs(&writers).await?) {
            return Ok(Applied::Stale(ahead.to_string()));
        }
        let mut writer = self.writer().await?;
        let apply = async {
            let mut transaction = begin_write(&mut writer).await?;
            let held = positions(&mut transaction).await?;
            if let Some(why) = advance.refusal(held.as_ref().map(|held| &held.positions)) {
                return Ok(Applied::Stale(why));
            }
            insert(&mut transaction, segments).await?;
            add_sums(&mut transaction, segments).await?;
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
        let AddedUp { segments, writers, unattributed } = add_up(&mut snapshot, cutoffs).await?;
        drop(snapshot);
        let mut writer = self.writer().await?;
        let install = async {
            let mut transaction = begin_write(&mut writer).await?;
            let held: Option<Generation> =
                sqlx::query_scalar("SELECT generation FROM source_views").fetch_optional(&mut *transaction).await?;
            if held.as_ref() != seen {
                return Ok(false);
            }
            for table in ["views", "positions", "marks", "segments", "sums"] {
                let clear = sqlx::AssertSqlSafe(format!("DELETE FROM source_{table}"));
                sqlx::query(clear).execute(&mut *transaction).await?;
            }
            insert(&mut transaction, &segments).await?;
            add_sums(&mut transaction, &segments).await?;
            fill_unattributed(&mut transaction, &unattributed).await?;
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
        let mut writer = self.writer().await?;
        let apply_retention = async {
            let mut transaction = begin_write(&mut writer).await?;
            let forget = "DELETE FROM source_marks WHERE writer NOT IN (SELECT id FROM writers)";
            sqlx::query(forget).execute(&mut *transaction).await?;
            let minutes = cutoffs.minutes.map_or(i64::MAX, |first| first.0);
            let expired =
                [(Family::Windows, cutoffs.windows.0), (Family::Days, cutoffs.days.0), (Family::Minutes, minutes)];
            for (family, first) in expired {
                for table in ["segments", "sums", "base"] {
                    let delete = format!("DELETE FROM source_{table} WHERE family = $1 AND period < $2");
                    let delete = sqlx::query(sqlx::AssertSqlSafe(delete)).bind(family.code()).bind(first);
                    delete.execute(&mut *transaction).await?;
                }
            }
            transaction.commit().await
        };
        apply_retention.await.map_err(failed)
    }

    async fn full_places(&self, fan_in: usize, limit: usize) -> Result<Vec<Place>, StoreError> {
        self.select_full(fan_in, limit).await
    }

    async fn segments_at(&self, places: &[Place], limit: usize) -> Result<Vec<StoredSegment>, StoreError> {
        self.select_at(places, limit).await
    }

    async fn replace(&self, generation: &Generation, merged: &[i64], sums: &[Segment]) -> Result<bool, StoreError> {
        let mut writer = self.writer().await?;
        let replace = async {
            let mut transaction = begin_write(&mut writer).await?;
            let held: Option<Generation> =
                sqlx::query_scalar("SELECT generation FROM source_views").fetch_optional(&mut *transaction).await?;
            // Dropped without a commit, the transaction is rolled back.
            if held.as_ref() != Some(generation) || delete(&mut transaction, merged).await? != merged.len() as u64 {
                return Ok(false);
            }
            insert(&mut transaction, sums).await?;
            transaction.commit().await?;
            Ok(true)
        };
        replace.await.map_err(failed)
    }

    /// There are none.
    async fn export_rows(&self, _: Millis) -> Result<(), StoreError> {
        Ok(())
    }
}
