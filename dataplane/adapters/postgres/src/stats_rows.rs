//! Rows of closed and open windows and of past days, for people and reporting tools. Of our programs, only the audit reads them.
//!
//! A row costs a hundred times as much as an entry of a segment. So a checkpoint writes rows only while it has few of them. Otherwise the
//! windows from `rows_until` on are left out, and exported from the segments later: see `row_export`.

use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::PgConnection;
use tokio::time::timeout;

use super::{
    PostgresStore,
    row_tables::{add_days, add_windows},
};
use ping_core::{Day, Window};
use ping_ports::StoreError;
use ping_segments::{Family, RowCoverage, Segment, day_rows, window_rows};

/// Rows of a checkpoint above which later checkpoints leave out most of them: they take 30 ms.
const MAX_ROWS: usize = 3_000;

const DELAY: &str = "UPDATE source_views SET rows_until = least(rows_until, $1), export_until = 0, exported = 0";

/// How many windows the last checkpoint had, whether their rows were written or left out.
#[derive(Debug, Default)]
pub(super) struct RowLoad(AtomicUsize);

impl RowLoad {
    /// Whether the last checkpoint had more than half of the rows that are written at once: an export would soon be discarded.
    pub(super) fn is_high(&self) -> bool {
        self.0.load(Ordering::Relaxed) > MAX_ROWS / 2
    }
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
    coverage: RowCoverage,
) -> Result<RowsWritten, sqlx::Error> {
    let unreadable = |error: ping_segments::FormatError| sqlx::Error::Decode(error.into());
    let data = || segments.iter().map(|segment| (segment.place, &*segment.data));
    let has_window = |source: &str, window| coverage.has_window(source, window);
    let windows = window_rows(data(), coverage.windows_end(), has_window);
    let windows = windows.map_err(unreadable)?;
    add_windows(connection, &windows).await?;
    let in_all =
        segments.iter().filter(|segment| segment.place.family == Family::Windows).map(|segment| segment.rows).sum();
    let with_windows = |day: Day| {
        segments.iter().any(|segment| segment.place.family == Family::Windows && segment.place.period == day.0)
    };
    // A day is counted in a row of its own, or in its windows.
    let days = day_rows(data(), |source, day| coverage.has_day(source, day) || !with_windows(day));
    let days = days.map_err(unreadable)?;
    add_days(connection, &days).await?;
    if windows.len() <= MAX_ROWS {
        return Ok(RowsWritten { windows: in_all, delay_from: None });
    }
    // Half of the rows stay: a single late event must not delay everything since it happened.
    let mut times: Vec<_> = windows.iter().map(|(_, window, _)| *window).collect();
    times.sort_unstable();
    Ok(RowsWritten { windows: in_all, delay_from: times.get(MAX_ROWS / 2).copied() })
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
}
