//! The space that the database occupies.

use async_trait::async_trait;

use super::PostgresStore;
use ping_ports::{StoragePart, StorageReader, StorageSizes, StoreError};

/// Sizes of tables with their indexes; those of partitions under the name of the partitioned table. Then that of the database, and what the
/// log may need: it is kept up to `wal_keep_size` beyond the last checkpoint, and grows by `max_wal_size` until the next one.
const SIZES: &str = "SELECT 'table', coalesce(root.relname, leaf.relname)::text, coalesce(sum(pg_total_relation_size(leaf.oid)), 0)::bigint
FROM pg_class leaf LEFT JOIN pg_class root ON root.oid = pg_partition_root(leaf.oid)
WHERE leaf.relkind IN ('r', 'm') AND leaf.relnamespace = current_schema()::regnamespace GROUP BY 2
UNION ALL SELECT 'database', '', pg_database_size(current_database())
UNION ALL SELECT 'wal', '', pg_size_bytes(current_setting('max_wal_size')) + pg_size_bytes(current_setting('wal_keep_size'))";

/// The part that a table belongs to.
fn part(table: &str) -> StoragePart {
    match table {
        "events" => StoragePart::Events,
        "millisecond_counts" => StoragePart::MillisecondCounts,
        "rollups" => StoragePart::Rollups,
        "outbox" | "published" => StoragePart::Outbox,
        "source_windows" | "source_past_days" => StoragePart::StatsRows,
        "source_base" => StoragePart::Segments,
        name if name.ends_with("_segments") => StoragePart::Segments,
        _ => StoragePart::Other,
    }
}

#[async_trait]
impl StorageReader for PostgresStore {
    async fn storage_sizes(&self) -> Result<Option<StorageSizes>, StoreError> {
        let rows = self.rows::<(String, String, i64)>(sqlx::query_as(SIZES)).await?;
        Ok(Some(sizes(rows)))
    }
}

fn sizes(rows: Vec<(String, String, i64)>) -> StorageSizes {
    let (mut sizes, mut of_tables, mut database) = (StorageSizes::default(), 0, 0);
    for (what, table, bytes) in rows {
        match &*what {
            "table" => {
                *sizes.parts.entry(part(&table)).or_insert(0) += bytes;
                of_tables += bytes;
            }
            "database" => database = bytes,
            _ => sizes.wal = bytes,
        }
    }
    // The system's tables, and those of other schemas. Tables may have grown since their sizes were read.
    *sizes.parts.entry(StoragePart::Other).or_insert(0) += (database - of_tables).max(0);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_database() {
        let row = |what: &str, table: &str, bytes| (what.to_owned(), table.to_owned(), bytes);
        let sizes = sizes(vec![
            row("table", "events", 500),
            row("table", "source_segments", 40),
            row("table", "writers", 7),
            row("database", "", 600),
            row("wal", "", 30),
        ]);
        let expected = [(StoragePart::Events, 500), (StoragePart::Segments, 40), (StoragePart::Other, 60)];
        assert_eq!((sizes.parts.clone(), sizes.wal), (expected.into(), 30));
        assert_eq!(sizes.total(), 600);
    }
}
