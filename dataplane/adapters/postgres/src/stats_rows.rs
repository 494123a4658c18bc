//! Rows of closed and open windows and of past days, for people and reporting tools. No program of ours reads them.
//!
//! A row costs a hundred times as much as an entry of a segment. So a checkpoint writes rows only while it has few of them. Otherwise the
//! windows from `rows_until` on are left out, and exported from the segments when there is less to do: some thousand rows per transaction,
//! because checkpoints wait for it. Between two of them, checkpoints write the rows of the sources that were exported.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, timeout};

use super::{
    PostgresStore,
    row_tables::{add_days, add_windows, set_windows},
    segments::select_on,
    views::{IDLE_TIMEOUT, REBUILD_BEGIN, REBUILD_LOCK},
};
use ping_core::{Day, Millis, Window};
use ping_ports::StoreError;
use ping_segments::{
    Family, HASH_END, Node, RowCoverage, Segment, SegmentQuery, day_rows, export_slice, window_rows,
};

/// Rows of a checkpoint above which later checkpoints leave out most of them: they take 30 ms.
const MAX_ROWS: usize = 3_000;
/// In `rows_until`: rows are complete.
const ALL_WINDOWS: Window = Window(i64::MAX);
/// Windows that are exported together.
const WINDOWS_PER_EXPORT: i64 = 6;
/// A transaction that has exported this many rows is committed. They take about 50 ms.
const ROWS_PER_EXPORT: usize = 4_096;
/// How long a call goes on exporting. The next one follows a quarter of a second later.
const EXPORT_TIME: Duration = Duration::from_millis(200);
/// Limit of one transaction, which waits for a checkpoint.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(30);

const ROWS_UNTIL: &str = "SELECT rows_until FROM source_views";
const COVERAGE: &str = "SELECT rows_until, export_until, exported FROM source_views";
const DELAY: &str = "UPDATE source_views SET rows_until = least(rows_until, $1), export_until = 0, exported = 0";
const ADVANCE: &str = "UPDATE source_views SET rows_until = $1, export_until = $2, exported = $3";
const NODE: &str = "SELECT coalesce(max(node), 1) FROM source_segments WHERE family = $1";

/// How many rows the last checkpoint had or would have had.
#[derive(Debug, Default)]
pub(super) struct RowLoad(AtomicUsize);

/// What the views say about rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowLimits {
    /// The first day that is counted in its windows; earlier ones have rows of their own.
    pub(super) days_from: Day,
    /// Which windows have rows.
    pub(super) windows: RowCoverage,
}

/// What a checkpoint found out about rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowsWritten {
    /// How many windows it has, whether their rows were written or left out.
    windows: usize,
    /// Later checkpoints should leave out the rows from this window on, because there are too many.
    delay_from: Option<Window>,
}

/// Adds the rows of a checkpoint.
pub(super) async fn add_rows(
    connection: &mut PgConnection,
    segments: &[Segment],
    limits: RowLimits,
) -> Result<RowsWritten, sqlx::Error> {
    let unreadable = |error: ping_segments::FormatError| sqlx::Error::Decode(error.into());
    let data = segments.iter().map(|segment| (segment.place, &*segment.data));
    let windows = window_rows(data, limits.windows.end(), |source, window| limits.windows.has(source, window));
    let windows = windows.map_err(unreadable)?;
    add_windows(connection, &windows).await?;
    let in_all =
        segments.iter().filter(|segment| segment.place.family == Family::Windows).map(|segment| segment.rows).sum();
    let with_windows = |day: Day| {
        segments.iter().any(|segment| segment.place.family == Family::Windows && segment.place.period == day.0)
    };
    // A day is counted in a row of its own, or in its windows.
    let days = day_rows(segments, |day| day < limits.days_from || !with_windows(day)).map_err(unreadable)?;
    add_days(connection, &days).await?;
    if windows.len() <= MAX_ROWS {
        return Ok(RowsWritten { windows: in_all, delay_from: None });
    }
    // Half of the rows stay: a single late event must not delay everything since it happened.
    let mut times: Vec<_> = windows.iter().map(|(_, window, _)| *window).collect();
    times.sort_unstable();
    Ok(RowsWritten { windows: in_all, delay_from: times.get(MAX_ROWS / 2).copied() })
}

/// Exports some thousand rows. False when there is nothing left to export.
async fn export(connection: &mut PgConnection, now: Window) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin_with(REBUILD_BEGIN).await?;
    sqlx::raw_sql(IDLE_TIMEOUT).execute(&mut *transaction).await?;
    // Every running checkpoint has finished, and none can start.
    sqlx::raw_sql(REBUILD_LOCK).execute(&mut *transaction).await?;
    let coverage: Option<(i64, i64, i64)> = sqlx::query_as(COVERAGE).fetch_optional(&mut *transaction).await?;
    let coverage = coverage.map(|(until, export_until, exported)| RowCoverage {
        until: Window(until),
        export_until: Window(export_until),
        exported,
    });
    let Some(RowCoverage { until: from, mut export_until, mut exported }) =
        coverage.filter(|coverage| coverage.until < ALL_WINDOWS)
    else {
        return Ok(false);
    };
    if export_until <= from {
        let next = Window(from.0.saturating_add(WINDOWS_PER_EXPORT));
        (export_until, exported) = (if next > now { ALL_WINDOWS } else { next }, 0);
    }
    let deepest = sqlx::query_scalar(NODE).bind(Family::Windows.code()).fetch_one(&mut *transaction).await?;
    let mut written = 0;
    while exported < HASH_END && written < ROWS_PER_EXPORT {
        let (slice, end) = export_slice(Node(deepest), exported);
        written += export_rows_of(&mut transaction, slice, from, export_until).await?;
        exported = end;
    }
    let done = exported >= HASH_END;
    let advance = sqlx::query(ADVANCE);
    let advance = if done {
        advance.bind(export_until.0).bind(0_i64).bind(0_i64)
    } else {
        advance.bind(from.0).bind(export_until.0).bind(exported)
    };
    advance.execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(!done || export_until < ALL_WINDOWS)
}

/// Writes the rows of `slice` in the windows from `from` to before `until`; returns how many.
async fn export_rows_of(
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

impl PostgresStore {
    /// Notes the rows of a checkpoint, and makes later ones leave out rows if there are too many.
    pub(super) async fn limit_rows(&self, written: RowsWritten) -> Result<(), StoreError> {
        self.row_load.0.store(written.windows, Ordering::Relaxed);
        let Some(from) = written.delay_from else { return Ok(()) };
        let mut connection = self.write_pool.acquire().await?;
        let delay = sqlx::query(DELAY).bind(from.0);
        let result = timeout(self.timeout, delay.execute(connection.get_mut())).await;
        connection.finish(result)?;
        Ok(())
    }

    /// Exports windows that checkpoints have left out, for a fifth of a second, unless those still have too many rows.
    pub(super) async fn export_windows(&self, now: Millis) -> Result<(), StoreError> {
        if self.row_load.0.load(Ordering::Relaxed) > MAX_ROWS / 2 {
            return Ok(());
        }
        let until: Vec<(i64,)> = self.rows(sqlx::query_as(ROWS_UNTIL)).await?;
        let Some(from) = until.first().map(|(until,)| Window(*until)).filter(|from| *from < ALL_WINDOWS) else {
            return Ok(());
        };
        let now = Window::of(now);
        // An event may be up to a day in the future.
        let last = Window(from.0.saturating_add(WINDOWS_PER_EXPORT)).day().0.max(now.day().0 + 2);
        self.create_partitions((from.day().0..=last).map(Day)).await?;
        let end = Instant::now() + EXPORT_TIME;
        loop {
            let mut connection = self.write_pool.acquire().await?;
            let result = timeout(EXPORT_TIMEOUT, export(connection.get_mut(), now)).await;
            if !connection.finish(result)? || Instant::now() >= end {
                return Ok(());
            }
        }
    }
}
