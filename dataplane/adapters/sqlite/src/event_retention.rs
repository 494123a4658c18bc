//! Dropping events: rows are deleted in small transactions, each of which keeps what they had contributed.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::{Sqlite, SqliteConnection, Transaction};
use uuid::Uuid;

use super::{SqliteStore, begin_write, commit::write, failed, segments::insert_into, where_in};
use ping_core::{Day, Millis, Minute, RetentionCutoffs, id_day, ids_before};
use ping_ports::{EventCutoff, EventRetention, StoreError};
use ping_segments::{Changes, FAN_IN, FormatError, Segment, merge};
use ping_sql::place;

/// Rows that one transaction reads.
const ROWS_AT_ONCE: usize = 2_000;
/// Places of the base that are merged at once.
const PLACES_AT_ONCE: i64 = 64;

const CUTOFF: &str = "SELECT first_day, moved_ms, milliseconds_from FROM event_retention";
const MOVE: &str = "UPDATE event_retention SET first_day = $1, moved_ms = $2 WHERE first_day IS NULL OR first_day < $1";
const NEXT: &str = "SELECT id, coalesce(source, ''), coalesce(kind, ''), timestamp_ms FROM events
WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3";
const SET_MILLISECONDS_FROM: &str = "UPDATE event_retention SET milliseconds_from = max(milliseconds_from, $1)";
const DELETE_MILLISECONDS: &str = "DELETE FROM millisecond_counts WHERE timestamp_ms IN (
    SELECT timestamp_ms FROM millisecond_counts WHERE timestamp_ms < $1 LIMIT $2)";
const FULL: &str = "SELECT family, node, period FROM source_base GROUP BY 1, 2, 3 HAVING count(*) >= $1 LIMIT $2";
const TAKE: &str = "DELETE FROM source_base WHERE family = $1 AND node = $2 AND period = $3 RETURNING data";
const BASE: &str = "SELECT family, node, period, data, events FROM source_base
WHERE family = 0 OR family = 1 AND period >= $1 OR family = 2 AND period >= $2 OR family = 3 AND period >= $3";
const DROPPED: &str = "SELECT minute / 1440, sum(attributed) FROM dropped_minutes GROUP BY 1";

type Row = (Uuid, String, String, Millis);

fn unreadable(error: FormatError) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

/// The segments that a rebuild begins with.
pub(super) async fn base(
    snapshot: &mut Transaction<'static, Sqlite>,
    cutoffs: RetentionCutoffs,
) -> Result<Vec<Segment>, StoreError> {
    let minutes = cutoffs.minutes.map_or(i64::MAX, |first| first.0);
    let base = sqlx::query_as::<_, (i16, i32, i64, Vec<u8>, i64)>(BASE);
    let base = base.bind(cutoffs.windows.0).bind(cutoffs.days.0).bind(minutes);
    let rows = base.fetch_all(&mut **snapshot).await.map_err(failed)?;
    let segment = |(family, node, period, data, events)| {
        Ok(Segment { place: place(family, node, period)?, rows: 0, events, data })
    };
    rows.into_iter().map(segment).collect()
}

/// Adds dropped events with a source to `per_day`.
pub(super) async fn add_dropped(
    snapshot: &mut Transaction<'static, Sqlite>,
    per_day: &mut BTreeMap<Day, i64>,
) -> Result<(), StoreError> {
    let dropped: Vec<(i64, i64)> = sqlx::query_as(DROPPED).fetch_all(&mut **snapshot).await.map_err(failed)?;
    for (day, count) in dropped.into_iter().filter(|(_, count)| *count > 0) {
        *per_day.entry(Day(day)).or_insert(0) += count;
    }
    Ok(())
}

async fn insert(writer: &mut SqliteConnection, segments: &[Segment]) -> Result<(), sqlx::Error> {
    let into = "INSERT INTO source_base (family, node, period, data, events, digest) ";
    insert_into(writer, into, segments).await
}

/// Drops the expired events among `rows`; returns how many.
async fn drop_rows(
    writer: &mut SqliteConnection,
    rows: &[Row],
    first_day: Day,
    cutoffs: RetentionCutoffs,
) -> Result<u64, sqlx::Error> {
    let (mut changes, mut minutes, mut ids) = (Changes::default(), BTreeMap::<i64, (i64, i64)>::new(), Vec::new());
    for (id, source, kind, timestamp_ms) in rows {
        if id_day(*id).is_none_or(|day| day >= first_day) {
            continue;
        }
        let has_source = changes.add(source, kind, *timestamp_ms);
        let minute = minutes.entry(Minute::of(*timestamp_ms).0).or_default();
        *minute = (minute.0 + 1, minute.1 + i64::from(has_source));
        ids.push(*id);
    }
    if ids.is_empty() {
        return Ok(0);
    }
    let minutes: Vec<_> = minutes.into_iter().collect();
    let into = "INSERT INTO dropped_minutes (minute, count, attributed) ";
    let add =
        " ON CONFLICT DO UPDATE SET count = count + excluded.count, attributed = attributed + excluded.attributed";
    write(writer, into, &minutes, add, |row, (minute, (count, attributed))| {
        row.push_bind(*minute).push_bind(*count).push_bind(*attributed);
    })
    .await?;
    let segments = changes.segments(cutoffs).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    insert(writer, &segments).await?;
    let deleted = ids.len() as u64;
    where_in("DELETE FROM events WHERE id", ids).build().execute(writer).await?;
    Ok(deleted)
}

/// Merges segments of the base at full places; false when there are none.
async fn merge_base(writer: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let mut transaction = begin_write(writer).await?;
    let full = sqlx::query_as::<_, (i16, i32, i64)>(FULL).bind(FAN_IN as i64).bind(PLACES_AT_ONCE);
    let places = full.fetch_all(&mut *transaction).await?;
    for (family, node, period) in &places {
        let take = sqlx::query_scalar::<_, Vec<u8>>(TAKE).bind(family).bind(node).bind(period);
        let data = take.fetch_all(&mut *transaction).await?;
        let place = place(*family, *node, *period).map_err(|error| sqlx::Error::Decode(error.0))?;
        let sums = merge(place, data.iter().map(Vec::as_slice)).map_err(unreadable)?;
        insert(&mut transaction, &sums).await?;
    }
    transaction.commit().await?;
    Ok(!places.is_empty())
}

#[async_trait]
impl EventRetention for SqliteStore {
    async fn event_cutoff(&self) -> Result<EventCutoff, StoreError> {
        let cutoff = sqlx::query_as::<_, (Option<i64>, Millis, Millis)>(CUTOFF).fetch_one(&self.readers);
        let (first_day, moved_at, milliseconds_from) = cutoff.await.map_err(failed)?;
        Ok(EventCutoff { now: self.clock.now(), first_day: first_day.map(Day), moved_at, milliseconds_from })
    }

    async fn move_cutoff(&self, first_day: Day, now: Millis) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let moved = sqlx::query(MOVE).bind(first_day.0).bind(now).execute(&mut *writer);
        moved.await.map_err(failed)?;
        Ok(())
    }

    /// There is nothing to prepare.
    async fn prepare_days(&self, _: Day) -> Result<(), StoreError> {
        Ok(())
    }

    /// Between two transactions, others may write.
    async fn drop_expired(&self, cutoffs: RetentionCutoffs) -> Result<Option<u64>, StoreError> {
        let Some(first_day) = self.event_cutoff().await?.first_day else { return Ok(Some(0)) };
        let (mut after, before) = ids_before(first_day);
        let mut dropped = 0;
        loop {
            let mut writer = self.writer().await?;
            let mut transaction = begin_write(&mut writer).await.map_err(failed)?;
            let next = sqlx::query_as::<_, Row>(NEXT).bind(after).bind(before).bind(ROWS_AT_ONCE as i64);
            let rows = next.fetch_all(&mut *transaction).await.map_err(failed)?;
            dropped += drop_rows(&mut transaction, &rows, first_day, cutoffs).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
            match rows.last() {
                Some((last, ..)) if rows.len() == ROWS_AT_ONCE => after = *last,
                _ => break,
            }
        }
        while dropped > 0 && merge_base(&mut *self.writer().await?).await.map_err(failed)? {}
        let kept_from = first_day.start();
        let set = sqlx::query(SET_MILLISECONDS_FROM).bind(kept_from);
        set.execute(&mut *self.writer().await?).await.map_err(failed)?;
        loop {
            let delete = sqlx::query(DELETE_MILLISECONDS).bind(kept_from).bind(ROWS_AT_ONCE as i64);
            let deleted = delete.execute(&mut *self.writer().await?).await.map_err(failed)?;
            if deleted.rows_affected() < ROWS_AT_ONCE as u64 {
                return Ok(Some(dropped));
            }
        }
    }
}
