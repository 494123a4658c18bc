//! Rows of closed and open windows and of past days, for people and reporting tools. No program of ours reads them.
//!
//! A row costs a hundred times as much as an entry of a segment. So a checkpoint writes rows only while it has few of them. Otherwise the
//! windows from `rows_until` on are left out, and exported from the segments when there is less to do.

use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::{
    PostgresStore,
    row_tables::{add_days, add_windows, set_windows},
    segments::select_on,
    views::{IDLE_TIMEOUT, REBUILD_BEGIN, REBUILD_LOCK, REBUILD_TIMEOUT},
};
use ping_core::{Day, Millis, Window};
use ping_ports::StoreError;
use ping_segments::{Family, Segment, SegmentQuery, day_rows, slices, window_rows};

/// Rows of a checkpoint above which later checkpoints leave out most of them: they take 30 ms.
const MAX_ROWS: usize = 3_000;
/// In `rows_until`: rows are complete.
const ALL_WINDOWS: Window = Window(i64::MAX);
/// Windows that one transaction exports. Checkpoints wait for it.
const WINDOWS_PER_EXPORT: i64 = 6;

const ROWS_UNTIL: &str = "SELECT rows_until FROM source_views";
const DELAY: &str = "UPDATE source_views SET rows_until = least(rows_until, $1)";
const ADVANCE: &str = "UPDATE source_views SET rows_until = $1";
const NODE: &str = "SELECT coalesce(max(node), 1) FROM source_segments WHERE family = $1";

/// How many rows the last checkpoint had or would have had.
#[derive(Debug, Default)]
pub(super) struct RowLoad(AtomicUsize);

/// What the views say about rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowLimits {
    /// The first day that is counted in its windows; earlier ones have rows of their own.
    pub(super) days_from: Day,
    /// Rows of windows before this one are complete.
    pub(super) rows_until: Window,
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
    let windows = window_rows(segments.iter().map(|segment| (segment.place, &*segment.data)), limits.rows_until);
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

/// Exports the next windows, or all that are left if `now` is among them.
async fn export(connection: &mut PgConnection, now: Window) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with(REBUILD_BEGIN).await?;
    sqlx::raw_sql(IDLE_TIMEOUT).execute(&mut *transaction).await?;
    // Every running checkpoint has finished, and none can start.
    sqlx::raw_sql(REBUILD_LOCK).execute(&mut *transaction).await?;
    let from: Option<i64> = sqlx::query_scalar(ROWS_UNTIL).fetch_optional(&mut *transaction).await?;
    let Some(from) = from.map(Window).filter(|from| *from < ALL_WINDOWS) else { return Ok(()) };
    let next = Window(from.0.saturating_add(WINDOWS_PER_EXPORT));
    let until = if next > now { ALL_WINDOWS } else { next };
    let days = (from.day(), if next > now { Day(i64::MAX) } else { Day(Window(until.0 - 1).day().0 + 1) });
    let deepest = sqlx::query_scalar(NODE).bind(Family::Windows.code()).fetch_one(&mut *transaction).await?;
    for slice in slices(ping_segments::Node(deepest)) {
        let segments = select_on(&mut transaction, &[SegmentQuery::all_windows(slice, days.0, days.1)]).await?;
        let rows = window_rows(segments.iter().map(|segment| (segment.place, &*segment.data)), until);
        let mut rows = rows.map_err(|error| sqlx::Error::Decode(error.into()))?;
        rows.retain(|(source, window, _)| *window >= from && slice.has(source));
        set_windows(&mut transaction, &rows).await?;
    }
    sqlx::query(ADVANCE).bind(until.0).execute(&mut *transaction).await?;
    transaction.commit().await
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

    /// Exports windows that checkpoints have left out, unless those still have too many rows.
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
        let mut connection = self.write_pool.acquire().await?;
        let result = timeout(REBUILD_TIMEOUT, export(connection.get_mut(), now)).await;
        Ok(connection.finish(result)?)
    }
}
