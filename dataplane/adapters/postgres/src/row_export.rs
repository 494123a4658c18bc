//! Exports rows for SQL from the segments: windows that checkpoints have left out, and days that have ended.
//!
//! One transaction takes some 50 ms, because checkpoints wait for it. Between two of them, checkpoints write the rows of the sources that were
//! exported. After a rebuild nothing has rows: the export then goes from the first day to the last.

use std::time::Duration;

use sqlx::{Connection, FromRow, PgConnection, Row, postgres::PgRow};
use tokio::time::{Instant, timeout};

use super::{
    PostgresStore,
    row_tables::{set_days, set_windows},
    segments::{DEEPEST, select_on},
    views::{IDLE_TIMEOUT, REBUILD_BEGIN, REBUILD_LOCK},
};
use ping_core::{Day, Millis, Window};
use ping_ports::StoreError;
use ping_segments::{ExportSlices, Family, Node, RowCoverage, SegmentQuery, day_rows, window_rows};

/// In `rows_until`: rows are complete.
const ALL_WINDOWS: Window = Window(i64::MAX);
/// Windows that are exported together.
const WINDOWS_PER_EXPORT: i64 = 6;
/// A transaction that has written this many rows, or has had its lock for this long, is committed.
const ROWS_PER_EXPORT: usize = 4_096;
const TIME_PER_EXPORT: Duration = Duration::from_millis(50);
/// After a slice that took less, a larger one is exported.
const LITTLE_TIME: Duration = Duration::from_millis(10);
/// A call starts no further transaction after this time. The processor calls again 250 ms later.
const EXPORT_TIME: Duration = Duration::from_millis(200);
/// Limit of one transaction, including its wait for running checkpoints.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(30);

const BACKLOG: &str = "SELECT rows_until, export_until, exported, days_from, closed,
    EXISTS (SELECT FROM source_sums WHERE family = 1 AND period = days_from) AS has_windows,
    least((SELECT min(period) FROM source_sums WHERE family = 1 AND period > days_from),
        (SELECT min(period) FROM source_sums WHERE family = 2 AND period > days_from)) AS next_day
FROM source_views";
/// The days that have windows. One of them may be far ahead: the clock of a server was wrong, or rows were imported.
const DAYS_WITH_WINDOWS: &str = "SELECT DISTINCT period FROM source_sums WHERE family = 1 AND period >= $1";
const ADVANCE_WINDOWS: &str = "UPDATE source_views SET rows_until = $1, export_until = $2, exported = $3";
const ADVANCE_DAY: &str = "UPDATE source_views SET closed = $1";
const FINISH_DAY: &str = "UPDATE source_views SET days_from = $1, closed = 0, rows_until = greatest(rows_until, $2)";

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

impl Next {
    /// The same, once the sources with a hash below `exported` are done.
    fn after(self, exported: i64) -> Self {
        match self {
            Self::Windows(from, until, _) => Self::Windows(from, until, exported),
            Self::Day(day, _) => Self::Day(day, exported),
        }
    }
}

/// What has no rows yet.
#[derive(Clone, Copy, Debug)]
struct Backlog {
    coverage: RowCoverage,
    /// Whether the first day that has no rows of its own has windows. Those of old days have expired.
    has_windows: bool,
    /// The next day with counts.
    next_day: Option<Day>,
}

impl FromRow<'_, PgRow> for Backlog {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let next_day: Option<i64> = row.try_get("next_day")?;
        let coverage = CoverageRow::from_row(row)?.coverage();
        Ok(Self { coverage, has_windows: row.try_get("has_windows")?, next_day: next_day.map(Day) })
    }
}

impl Backlog {
    /// What is exported next; `None` if all is.
    fn next(self, now: Window) -> Option<Next> {
        let RowCoverage { windows_until: from, export_until, exported, days_from, closed } = self.coverage;
        let windows_have_rows = days_from < from.day() || days_from == from.day() && !self.has_windows;
        if days_from < now.day() && windows_have_rows {
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

    /// The first day without rows of its own, once `days_from` has them. Days without counts have none.
    fn next_days_from(self, now: Window) -> Day {
        let RowCoverage { windows_until, days_from, .. } = self.coverage;
        let next = self.next_day.map_or(now.day(), |day| day.min(now.day()));
        if days_from < windows_until.day() { next.min(windows_until.day()) } else { next }
    }
}

/// Exports some thousand rows, if there are any. While it waits for running checkpoints, others wait behind it, so it gives up like they do.
/// `continued`: where the previous transaction ended, and how large its slices were.
async fn export(
    connection: &mut PgConnection,
    now: Window,
    continued: &mut Option<(Next, ExportSlices)>,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with(REBUILD_BEGIN).await?;
    sqlx::raw_sql(IDLE_TIMEOUT).execute(&mut *transaction).await?;
    // Every running checkpoint has finished, and none can start.
    sqlx::raw_sql(REBUILD_LOCK).execute(&mut *transaction).await?;
    let began = Instant::now();
    let backlog: Option<Backlog> = sqlx::query_as(BACKLOG).fetch_optional(&mut *transaction).await?;
    let Some((backlog, next)) = backlog.and_then(|backlog| Some((backlog, backlog.next(now)?))) else { return Ok(()) };
    let (family, exported) = match next {
        Next::Windows(_, _, exported) => (Family::Windows, exported),
        Next::Day(_, closed) => (Family::Days, closed),
    };
    let mut slices = match continued.take().filter(|(of, _)| *of == next) {
        Some((_, slices)) => slices,
        None => {
            let deepest = sqlx::query_scalar(DEEPEST).bind(family.code()).fetch_one(&mut *transaction).await?;
            ExportSlices::new(Node(deepest), exported)
        }
    };
    let mut written = 0;
    while let Some(slice) = slices.current() {
        let slice_began = Instant::now();
        written += match next {
            Next::Windows(from, until, _) => write_windows(&mut transaction, slice, from, until).await?,
            Next::Day(day, _) => write_day(&mut transaction, slice, day).await?,
        };
        slices.advance(slice_began.elapsed() < LITTLE_TIME);
        if written >= ROWS_PER_EXPORT || began.elapsed() >= TIME_PER_EXPORT {
            break;
        }
    }
    let (done, exported) = (slices.current().is_none(), slices.exported());
    *continued = Some((next.after(exported), slices));
    let advance = match next {
        Next::Windows(_, until, _) if done => sqlx::query(ADVANCE_WINDOWS).bind(until.0).bind(0_i64).bind(0_i64),
        Next::Windows(from, until, _) => sqlx::query(ADVANCE_WINDOWS).bind(from.0).bind(until.0).bind(exported),
        Next::Day(..) if done => {
            let days_from = backlog.next_days_from(now);
            sqlx::query(FINISH_DAY).bind(days_from.0).bind(days_from.first_window().0)
        }
        Next::Day(..) => sqlx::query(ADVANCE_DAY).bind(exported),
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
        let mut continued = None;
        while Instant::now() < end {
            let backlog: Vec<Backlog> = self.rows(sqlx::query_as(BACKLOG)).await?;
            match backlog.first().and_then(|backlog| backlog.next(now)) {
                None => break,
                Some(Next::Windows(..)) if self.row_load.is_high() => break,
                Some(Next::Windows(from, ..)) => {
                    let days: Vec<(i64,)> = self.rows(sqlx::query_as(DAYS_WITH_WINDOWS).bind(from.day().0)).await?;
                    self.create_partitions(days.into_iter().map(|(day,)| Day(day))).await?;
                }
                Some(Next::Day(..)) => {}
            }
            let mut connection = self.write_pool.acquire().await?;
            let result = timeout(EXPORT_TIMEOUT, export(connection.get_mut(), now, &mut continued)).await;
            connection.finish(result)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every day has windows.
    fn backlog(windows_until: Window, days_from: Day) -> Backlog {
        let coverage = RowCoverage { windows_until, export_until: Window(0), exported: 0, days_from, closed: 0 };
        Backlog { coverage, has_windows: true, next_day: Some(Day(days_from.0 + 1)) }
    }

    #[test]
    fn days_that_have_ended_come_first_and_then_windows() {
        let now = Window(288 * 100 + 50);
        let today = Day(100);
        assert_eq!(backlog(ALL_WINDOWS, today).next(now), None);
        let mut yesterday = backlog(ALL_WINDOWS, Day(99));
        yesterday.coverage.closed = 7;
        assert_eq!(yesterday.next(now), Some(Next::Day(Day(99), 7)));
        let from = Window(288 * 99 + 40);
        assert_eq!(backlog(from, Day(99)).next(now), Some(Next::Windows(from, Window(from.0 + 6), 0)));
        let late = Window(now.0 - 3);
        assert_eq!(backlog(late, today).next(now), Some(Next::Windows(late, ALL_WINDOWS, 0)));
        let mut begun = backlog(from, Day(99));
        (begun.coverage.export_until, begun.coverage.exported) = (Window(from.0 + 6), 9);
        assert_eq!(begun.next(now), Some(Next::Windows(from, Window(from.0 + 6), 9)));
    }

    /// After a rebuild, days whose windows have expired are exported as days only, and those without counts are skipped.
    #[test]
    fn days_without_windows_need_no_rows_of_windows() {
        let now = Window(288 * 100 + 50);
        let first = backlog(Window(288 * 20), Day(20));
        assert_eq!(first.next(now), Some(Next::Windows(Window(288 * 20), Window(288 * 20 + 6), 0)));
        let first = Backlog { has_windows: false, next_day: Some(Day(97)), ..first };
        assert_eq!((first.next(now), first.next_days_from(now)), (Some(Next::Day(Day(20), 0)), Day(97)));
        // Today is not over, and no day is exported before its windows are.
        let last = |next_day| Backlog { next_day, ..first }.next_days_from(now);
        assert_eq!((last(None), last(Some(Day(105)))), (Day(100), Day(100)));
        let today = Backlog { has_windows: false, ..backlog(Window(288 * 100), Day(100)) };
        assert_eq!(today.next(now), Some(Next::Windows(Window(288 * 100), Window(288 * 100 + 6), 0)));
        let before_windows = Backlog { next_day: Some(Day(99)), ..backlog(Window(288 * 98 + 7), Day(97)) };
        assert_eq!(before_windows.next_days_from(now), Day(98));
    }
}
