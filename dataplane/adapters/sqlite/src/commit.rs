//! The commit: one transaction. As in Postgres, every event is first assumed to be new. If fewer rows were inserted than sent, the
//! transaction is rolled back, the known ids are looked up, and a second attempt leaves them out.

use std::collections::HashSet;

use sqlx::{QueryBuilder, Sqlite, SqliteConnection, query_builder::Separated};
use uuid::Uuid;

use super::{begin_write, cause, where_in};
use ping_core::{Event, Millis, id_day};
use ping_ports::{Batch, CommitError, Committed};
use ping_sql::{BatchCounts, outbox_payload};

/// Rows per statement. Only these sizes are used, so that few statements need to be prepared; the largest stays far below SQLite's
/// limit of 32,766 variables.
const ROWS_PER_STATEMENT: [usize; 4] = [512, 64, 8, 1];

/// Returns a row if the writer may commit: the first day whose ids are accepted.
const FENCE: &str = "SELECT first_day FROM event_retention
WHERE EXISTS (SELECT 1 FROM writers WHERE id = $1 AND open AND last_seq = $2 - 1)";
const UPDATE_WRITER: &str = "UPDATE writers SET last_seq = $2, total = total + $3, lease_until = $4 WHERE id = $1";
const INSERT_OUTBOX: &str =
    "INSERT INTO outbox (writer, first_seq, last_seq, partitions, \"partition\", committed_ms, known, payload)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// The result of one attempt.
enum Attempt {
    Committed,
    Fenced,
    /// Some ids were already stored; which ones is not known yet.
    KnownIds,
}

/// Commits `batch` at time `now`.
pub(super) async fn commit(
    writer: &mut SqliteConnection,
    batch: &Batch,
    now: Millis,
    lease_until: Millis,
) -> Result<Committed, CommitError> {
    let mut committed = Committed { at: now, known: HashSet::new() };
    loop {
        match attempt(writer, batch, &committed, lease_until).await? {
            Attempt::Committed => return Ok(committed),
            Attempt::Fenced => return Err(CommitError::Fenced),
            Attempt::KnownIds => committed.known = known(writer, &batch.events).await.map_err(refused)?,
        }
    }
}

async fn attempt(
    writer: &mut SqliteConnection,
    batch: &Batch,
    committed: &Committed,
    lease_until: Millis,
) -> Result<Attempt, CommitError> {
    let mut transaction = begin_write(writer).await.map_err(refused)?;
    let fence = sqlx::query_scalar::<_, Option<i64>>(FENCE).bind(batch.writer.0).bind(batch.first_seq);
    let Some(first_day) = fence.fetch_optional(&mut *transaction).await.map_err(refused)? else {
        return Ok(Attempt::Fenced);
    };
    let is_expired = |event: &Event| id_day(event.id).is_some_and(|day| first_day.is_some_and(|first| day.0 < first));
    if batch.events.iter().any(is_expired) {
        return Err(CommitError::Expired);
    }
    let mut new: Vec<_> = batch.events.iter().filter(|event| !committed.known.contains(&event.id)).collect();
    // Sorted, because neighbours share a page of the table.
    new.sort_unstable_by_key(|event| event.id);
    if insert(&mut transaction, &new).await.map_err(refused)? < new.len() as u64 {
        return Ok(Attempt::KnownIds);
    }
    count(&mut transaction, &new, committed.at).await.map_err(refused)?;
    let update = sqlx::query(UPDATE_WRITER).bind(batch.writer.0).bind(batch.last_seq());
    let update = update.bind(new.len() as i64).bind(lease_until);
    update.execute(&mut *transaction).await.map_err(refused)?;
    insert_outbox(&mut transaction, batch, committed).await.map_err(refused)?;
    // Up to here nothing is stored; from here on the batch may be.
    transaction.commit().await.map_err(|error| CommitError::Unknown(cause(error)))?;
    Ok(Attempt::Committed)
}

fn refused(error: sqlx::Error) -> CommitError {
    CommitError::Refused(cause(error))
}

async fn known(writer: &mut SqliteConnection, events: &[Event]) -> Result<HashSet<Uuid>, sqlx::Error> {
    let mut known = HashSet::new();
    for chunk in chunks(events) {
        let mut query = where_in("SELECT id FROM events WHERE id", chunk.iter().map(|event| event.id));
        known.extend(query.build_query_scalar::<Uuid>().fetch_all(&mut *writer).await?);
    }
    Ok(known)
}

/// Inserts the events whose ids are new; returns how many.
async fn insert(writer: &mut SqliteConnection, events: &[&Event]) -> Result<u64, sqlx::Error> {
    let plain = events.iter().all(|event| event.source.is_empty() && event.kind.is_empty());
    let skip_known = " ON CONFLICT (id) DO NOTHING";
    if plain {
        return write(writer, "INSERT INTO events (id, timestamp_ms) ", events, skip_known, |row, event| {
            row.push_bind(event.id).push_bind(event.timestamp_ms);
        })
        .await;
    }
    let or_null = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    write(writer, "INSERT INTO events (id, timestamp_ms, source, kind) ", events, skip_known, |row, event| {
        row.push_bind(event.id)
            .push_bind(event.timestamp_ms)
            .push_bind(or_null(&event.source))
            .push_bind(or_null(&event.kind));
    })
    .await
}

async fn count(writer: &mut SqliteConnection, events: &[&Event], now: Millis) -> Result<(), sqlx::Error> {
    let counts = BatchCounts::of(events.iter().copied());
    let per_millisecond: Vec<_> = counts.per_millisecond.into_iter().collect();
    let add = " ON CONFLICT DO UPDATE SET count = count + excluded.count";
    write(
        writer,
        "INSERT INTO millisecond_counts (timestamp_ms, count) ",
        &per_millisecond,
        add,
        |row, (timestamp_ms, count)| {
            row.push_bind(*timestamp_ms).push_bind(count.count);
        },
    )
    .await?;
    let rollups: Vec<_> = counts.rollups.into_iter().collect();
    let into = "INSERT INTO rollups (width_minutes, bucket, count, attributed, touched_ms) ";
    let add = " ON CONFLICT DO UPDATE SET count = count + excluded.count,
        attributed = attributed + excluded.attributed, touched_ms = excluded.touched_ms";
    write(writer, into, &rollups, add, |row, ((width, bucket), count)| {
        row.push_bind(*width).push_bind(*bucket).push_bind(count.count).push_bind(count.attributed).push_bind(now);
    })
    .await?;
    Ok(())
}

async fn insert_outbox(writer: &mut SqliteConnection, batch: &Batch, committed: &Committed) -> Result<(), sqlx::Error> {
    let known: Vec<u8> = committed.known.iter().flat_map(|id| *id.as_bytes()).collect();
    sqlx::query(INSERT_OUTBOX)
        .bind(batch.writer.0)
        .bind(batch.first_seq)
        .bind(batch.last_seq())
        .bind(batch.partitions)
        .bind(batch.partition)
        .bind(committed.at)
        .bind(known)
        .bind(outbox_payload::encode(&batch.events))
        .execute(writer)
        .await?;
    Ok(())
}

/// Inserts rows in as few statements as possible; returns how many were inserted or changed.
pub(super) async fn write<T: Sync>(
    writer: &mut SqliteConnection,
    into: &'static str,
    rows: &[T],
    then: &'static str,
    bind: impl Fn(&mut Separated<'_, Sqlite, &'static str>, &T) + Send,
) -> Result<u64, sqlx::Error> {
    let mut changed = 0;
    for chunk in chunks(rows) {
        let mut query = QueryBuilder::<Sqlite>::new(into);
        query.push_values(chunk, |mut row, value| bind(&mut row, value)).push(then);
        changed += query.build().execute(&mut *writer).await?.rows_affected();
    }
    Ok(changed)
}

/// `rows` in as few chunks of the sizes above as possible.
fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = ROWS_PER_STATEMENT.into_iter().find(|size| *size <= rows.len())?;
        let (chunk, rest) = rows.split_at(size);
        rows = rest;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_rows_is_a_few_chunks() {
        let sizes = |rows: usize| chunks(&vec![0; rows]).map(<[i32]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(1000), [[512].as_slice(), &[64; 7], &[8; 5]].concat());
        assert_eq!((sizes(0), sizes(10)), (vec![], vec![8, 1, 1]));
    }
}
