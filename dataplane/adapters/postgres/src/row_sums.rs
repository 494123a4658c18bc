//! Sums rows of events into segments, in bounded memory: for a rebuild of the views, and for the base that it begins with.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection};
use tokio::task::yield_now;

use ping_core::{Day, Millis, RetentionCutoffs};
use ping_segments::{Changes, Segment};

const FETCH: &str = "FETCH 10000 FROM summed_events";
const CLOSE: &str = "CLOSE summed_events";

/// Reads rows with source, kind and time from a cursor.
pub(super) struct RowSums {
    max_bytes: usize,
    is_done: bool,
}

impl RowSums {
    /// Begins to read what `select` returns, in the transaction of `connection`. `max_bytes`: memory of the events that are summed at once.
    pub(super) async fn open(
        connection: &mut PgConnection,
        select: &str,
        max_bytes: usize,
    ) -> Result<Self, sqlx::Error> {
        let open = AssertSqlSafe(format!("DECLARE summed_events NO SCROLL CURSOR FOR {select}"));
        sqlx::query(open).execute(connection).await?;
        Ok(Self { max_bytes, is_done: false })
    }

    /// The segments of the next rows, which are also added to `per_day`. `None` when there are no more rows.
    pub(super) async fn next(
        &mut self,
        connection: &mut PgConnection,
        cutoffs: RetentionCutoffs,
        per_day: &mut BTreeMap<Day, i64>,
    ) -> Result<Option<Vec<Segment>>, sqlx::Error> {
        if self.is_done {
            sqlx::query(CLOSE).execute(connection).await?;
            return Ok(None);
        }
        let mut changes = Changes::default();
        while !self.is_done && changes.bytes() < self.max_bytes {
            let fetch = sqlx::query_as::<_, (String, String, Millis)>(FETCH);
            let events = fetch.fetch_all(&mut *connection).await?;
            self.is_done = events.is_empty();
            for (source, kind, timestamp_ms) in events {
                *per_day.entry(Day::of(timestamp_ms)).or_insert(0) += 1;
                changes.add(&source, &kind, timestamp_ms);
            }
        }
        summed(&changes, cutoffs).await.map(Some)
    }
}

/// The segments of `changes`.
pub(super) async fn summed(changes: &Changes, cutoffs: RetentionCutoffs) -> Result<Vec<Segment>, sqlx::Error> {
    let mut segments = Vec::new();
    for segment in changes.segments(cutoffs) {
        segments.push(segment.map_err(|error| sqlx::Error::Decode(error.into()))?);
        yield_now().await;
    }
    Ok(segments)
}
