//! Days in columns and in the names of partitions.

use jiff::Timestamp;
use uuid::Uuid;

use ping_core::{Day, id_day};
use ping_ports::StoreError;

/// In the column `id_day`: the id has no day, or a server of an earlier version wrote the row.
pub(super) const NO_DAY: i32 = -1;

/// The column `id_day` of an event.
pub(super) fn day_column(id: Uuid) -> i32 {
    id_day(id).and_then(|day| day.0.try_into().ok()).unwrap_or(NO_DAY)
}

/// The name of the partition of `table` for `day`: `source_windows_20241014`. Fails for a day that is not in the years -9999 to 9999.
pub(super) fn partition_name(table: &str, day: Day) -> Result<String, StoreError> {
    let start = Timestamp::from_millisecond(day.start()).map_err(|error| StoreError(error.into()))?;
    Ok(format!("{table}_{}", start.strftime("%Y%m%d")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ping_core::Window;

    #[test]
    fn a_days_partition_is_named_after_it() {
        let day = Window::of(1_728_926_331_000).day();
        assert_eq!(partition_name("source_windows", day).unwrap(), "source_windows_20241014");
    }
}
