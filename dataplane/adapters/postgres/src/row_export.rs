//! Exports rows for SQL from the segments: windows that checkpoints have left out, and days that have ended.
//!
//! One transaction writes some thousand rows, because checkpoints wait for it. Between two of them, checkpoints write the rows of the sources
//! that were exported.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, timeout};

use super::{
    PostgresStore,
    row_tables::{set_days, set_windows},
    segments::select_on,
    views::{IDLE_TIMEOUT, REBUILD_BEGIN, REBUILD_LOCK},
};
use ping_core::{Day, Millis, Window};
use ping_ports::StoreError;
use ping_segments::{Family, HASH_END, Node, RowCoverage, SegmentQuery, day_rows, export_slice, window_rows};

/// In `rows_until`: rows are complete.
const ALL_WINDOWS: Window = Window(i64::MAX);
/// Windows that are exported together.
const WINDOWS_PER_EXPORT: i64 = 6;
/// A transaction that has written this many rows is committed. They take about 50 ms.
const ROWS_PER_EXPORT: usize = 4_096;
/// A call starts no further transaction after this time. The processor calls again 250 ms later.
const EXPORT_TIME: Duration = Duration::from_millis(200);
/// Limit of one transaction, including its wait for running checkpoints.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(30);

const COVERAGE: &str = "SELECT rows_until, export_until, exported, days_from, closed FROM source_views";
const ADVANCE_WINDOWS: &str = "UPDATE source_views SET rows_until = $1, export_until = $2, exported = $3";
const ADVANCE_DAYS: &str = "UPDATE source_views SET days_from = $1, closed = $2";
const DEEPEST: &str = "SELECT coalesce(max(node), 1) FROM source_segments WHERE family = $1";

/// The columns of `source_views` that say which windows and days have rows.
pub(super) struct CoverageRow {
    rows_until: i64,
    export_until: i64,
    exported: i64,
    days_from: i64,
    closed: i64,
}

ping_sql::from_row!(CoverageRow of sqlx::postgres::PgRow { rows_until, export_until, exported, days_from, closed });

impl CoverageRow {
    pub(super) fn coverage(&self) -> RowCoverage {
        RowCoverage {
            windows_until: Window(self.rows_until),
            export_until: Window(self.export_until),
            exported: self.exported,
            days_from: Day(self.days_from),
            closed: self.closed,
        }
    }
}

/// What is exported next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The windows from the first to before the second one, of the sources from this hash on.
    Windows(Window, Window, i64),
    /// A day that has ended and whose windows all have rows, of the sources from this hash on.
    Day(Day, i64),
}

/// What is exported next; `None` if all is.
fn next(coverage: RowCoverage, now: Window) -> Option<Next> {
    let RowCoverage { windows_until: from, export_until, exported, days_from, closed } = coverage;
    if days_from < now.day().min(from.day()) {
        return Some(Next::Day(days_from, closed));
    }
    if from >= ALL_WINDOWS {
        return None;
    }
    if export_until > from {
        return Some(Next::Windows(from, export_until, exported));
    }
    let until = Window(from.0.saturating_add(WINDOWS_PER_EXPORT));
    Some(Next::Windows(from, if until > now { ALL_WINDOWS } else { until }, 0))
}

/// Exports some thousand rows, if there are any.
async fn export(connection: &mut PgConnection, now: Window) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with(REBUILD_BEGIN).await?;
    sqlx::raw_sql(IDLE_TIMEOUT).execute(&mut *transaction).await?;
    // Every running checkpoint has finished, and none can start.
    sqlx::raw_sql(REBUILD_LOCK).execute(&mut *transaction).await?;
    let coverage: Option<CoverageRow> = sqlx::query_as(COVERAGE).fetch_optional(&mut *transaction).await?;
    let Some(next) = coverage.and_then(|row| next(row.coverage(), now)) else { return Ok(()) };
    let (family, mut exported) = match next {
        Next::Windows(_, _, exported) => (Family::Windows, exported),
        Next::Day(_, closed) => (Family::Days, closed),
    };
    let deepest = sqlx::query_scalar(DEEPEST).bind(family.code()).fetch_one(&mut *transaction).await?;
    let mut written = 0;
    while exported < HASH_END && written < ROWS_PER_EXPORT {
        let (slice, end) = export_slice(Node(deepest), exported);
        written += match next {
            Next::Windows(from, until, _) => write_windows(&mut transaction, slice, from, until).await?,
            Next::Day(day, _) => write_day(&mut transaction, slice, day).await?,
        };
        exported = end;
    }
    let done = exported >= HASH_END;
    let advance = match next {
        Next::Windows(_, until, _) if done => sqlx::query(ADVANCE_WINDOWS).bind(until.0).bind(0_i64).bind(0_i64),
        Next::Windows(from, until, _) => sqlx::query(ADVANCE_WINDOWS).bind(from.0).bind(until.0).bind(exported),
        Next::Day(day, _) if done => sqlx::query(ADVANCE_DAYS).bind(day.0 + 1).bind(0_i64),
        Next::Day(day, _) => sqlx::query(ADVANCE_DAYS).bind(day.0).bind(exported),
    };
    advance.execute(&mut *transaction).await?;
    transaction.commit().await
}

/// Writes the rows of `slice` in the windows from `from` to before `until`; returns how many.
async fn write_windows(
    connection: &mut PgConnection,
    slice: Node,
    from: Window,
    until: Window,
) -> Result<usize, sqlx::Error> {
    let end = if until < ALL_WINDOWS { Day(Window(until.0 - 1).day().0 + 1) } else { Day(i64::MAX) };
    let segments = select_on(connection, &[SegmentQuery::all_windows(slice, from.day(), end)]).await?;
    let data = segments.iter().map(|segment| (segment.place, &*segment.data));
    let rows = window_rows(data, until, |source, window| window >= from && slice.has(source));
    let rows = rows.map_err(|error| sqlx::Error::Decode(error.into()))?;
    set_windows(connection, &rows).await?;
    Ok(rows.len())
}

/// Writes the rows of `slice` of `day`; returns how many.
async fn write_day(connection: &mut PgConnection, slice: Node, day: Day) -> Result<usize, sqlx::Error> {
    let segments = select_on(connection, &[SegmentQuery::all_days(slice, day, Day(day.0 + 1))]).await?;
    let data = segments.iter().map(|segment| (segment.place, &*segment.data));
    let rows = day_rows(data, |source, _| slice.has(source)).map_err(|error| sqlx::Error::Decode(error.into()))?;
    set_days(connection, &rows).await?;
    Ok(rows.len())
}

impl PostgresStore {
    /// Exports for about 200 ms. Windows wait until checkpoints have few rows.
    pub(super) async fn export(&self, now: Millis) -> Result<(), StoreError> {
        let (now, end) = (Window::of(now), Instant::now() + EXPORT_TIME);
        while Instant::now() < end {
            let coverage: Vec<CoverageRow> = self.rows(sqlx::query_as(COVERAGE)).await?;
            match coverage.first().and_then(|row| next(row.coverage(), now)) {
                None => break,
                Some(Next::Windows(..)) if self.row_load.is_high() => break,
                Some(Next::Windows(from, ..)) => {
                    // An event may be up to a day in the future.
                    let last = Window(from.0.saturating_add(WINDOWS_PER_EXPORT)).day().0.max(now.day().0 + 2);
                    self.create_partitions((from.day().0..=last).map(Day)).await?;
                }
                Some(Next::Day(..)) => {}
            }
            let mut connection = self.write_pool.acquire().await?;
            let result = timeout(EXPORT_TIMEOUT, export(connection.get_mut(), now)).await;
            connection.finish(result)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(windows_until: Window, days_from: Day) -> RowCoverage {
        RowCoverage { windows_until, export_until: Window(0), exported: 0, days_from, closed: 0 }
    }

    #[test]
    fn days_that_have_ended_come_first_and_then_windows() {
        let now = Window(288 * 100 + 50);
        let today = Day(100);
        assert_eq!(next(coverage(ALL_WINDOWS, today), now), None);
        let yesterday = RowCoverage { closed: 7, ..coverage(ALL_WINDOWS, Day(99)) };
        assert_eq!(next(yesterday, now), Some(Next::Day(Day(99), 7)));
        let from = Window(288 * 99 + 40);
        assert_eq!(next(coverage(from, Day(99)), now), Some(Next::Windows(from, Window(from.0 + 6), 0)));
        let late = Window(now.0 - 3);
        assert_eq!(next(coverage(late, today), now), Some(Next::Windows(late, ALL_WINDOWS, 0)));
        let begun = RowCoverage { export_until: Window(from.0 + 6), exported: 9, ..coverage(from, Day(99)) };
        assert_eq!(next(begun, now), Some(Next::Windows(from, Window(from.0 + 6), 9)));
    }
}
