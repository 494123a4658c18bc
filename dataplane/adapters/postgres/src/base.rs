//! The base: what events whose rows were dropped had contributed to the views. A rebuild begins with it.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use tokio::task::yield_now;

use super::segments::insert_into_base;
use ping_core::{Day, Partition, RetentionCutoffs};
use ping_segments::{FAN_IN, FormatError, merge};
use ping_sql::place;

/// Segments that are read at once.
const SEGMENTS_AT_ONCE: i64 = 256;

/// Places that have enough segments to be merged.
const FULL: &str = "SELECT family, node, period FROM source_base GROUP BY 1, 2, 3 HAVING count(*) >= $1 LIMIT $2";
const TAKE: &str = "DELETE FROM source_base WHERE family = $1 AND node = $2 AND period = $3 RETURNING data";

/// Families that a rebuild copies, each with its first period.
const KEPT: &str = "unnest($1::smallint[], $2::bigint[]) AS kept (family, first)
JOIN source_base s ON s.family = kept.family AND s.period >= kept.first";
const COPY: &str = "INSERT INTO source_segments (family, node, period, data, events, digest)
SELECT s.family, s.node, s.period, s.data, s.events, s.digest FROM ";
const ADD_SUMS: &str = "INSERT INTO source_sums AS t (family, period, \"partition\", count)
SELECT s.family, s.period, $3, sum(s.events)::bigint FROM ";
const ADD_SUMS_END: &str = " WHERE s.family < 3 GROUP BY s.family, s.period
ON CONFLICT (family, period, \"partition\") DO UPDATE SET count = t.count + excluded.count";
const DROPPED: &str =
    "SELECT minute / 1440, sum(attributed)::bigint FROM dropped_minutes GROUP BY 1 HAVING sum(attributed) > 0";

fn unreadable(error: FormatError) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

/// Merges segments of the base until no place has many.
pub(super) async fn merge_base(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    loop {
        let full = sqlx::query_as::<_, (i16, i32, i64)>(FULL).bind(FAN_IN as i64).bind(SEGMENTS_AT_ONCE);
        let places = full.fetch_all(&mut *connection).await?;
        if places.is_empty() {
            return Ok(());
        }
        for (family, node, period) in places {
            let take = sqlx::query_scalar::<_, Vec<u8>>(TAKE).bind(family).bind(node).bind(period);
            let data = take.fetch_all(&mut *connection).await?;
            let place = place(family, node, period).map_err(|error| sqlx::Error::Decode(error.0))?;
            let sums = merge(place, data.iter().map(Vec::as_slice)).map_err(unreadable)?;
            insert_into_base(connection, &sums).await?;
            yield_now().await;
        }
    }
}

/// Copies the base into views that are being rebuilt: segments, and their sums on `partition`.
pub(super) async fn copy_base(
    connection: &mut PgConnection,
    cutoffs: RetentionCutoffs,
    partition: Partition,
) -> Result<(), sqlx::Error> {
    let minutes = cutoffs.minutes.map_or(i64::MAX, |first| first.0);
    let (families, first) = (vec![0_i16, 1, 2, 3], vec![0, cutoffs.windows.0, cutoffs.days.0, minutes]);
    let copy = sqlx::AssertSqlSafe([COPY, KEPT].concat());
    sqlx::query(copy).bind(&families).bind(&first).execute(&mut *connection).await?;
    let add_sums = sqlx::AssertSqlSafe([ADD_SUMS, KEPT, ADD_SUMS_END].concat());
    sqlx::query(add_sums).bind(families).bind(first).bind(partition).execute(&mut *connection).await?;
    Ok(())
}

/// Adds dropped events with a source to `per_day`.
pub(super) async fn add_dropped(
    connection: &mut PgConnection,
    per_day: &mut BTreeMap<Day, i64>,
) -> Result<(), sqlx::Error> {
    let dropped: Vec<(i64, i64)> = sqlx::query_as(DROPPED).fetch_all(connection).await?;
    for (day, count) in dropped {
        *per_day.entry(Day(day)).or_insert(0) += count;
    }
    Ok(())
}
