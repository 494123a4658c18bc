-- The views per source are kept as segments (docs/adr/0031-segments.md) instead of a row per count. The next processor builds them. A processor
-- of an earlier version cannot write the views any more, because its tables are gone.

-- Compressed lists of counts. All segments of a source add up to its counts. `family` says what they count, `node` whose counts they are,
-- `period` of which day or minute. A checkpoint inserts some, a merge replaces some by their sum; none is updated.
CREATE TABLE source_segments (
    id     bigint   GENERATED ALWAYS AS IDENTITY,
    family smallint NOT NULL,
    node   int      NOT NULL,
    period bigint   NOT NULL,
    data   bytea    NOT NULL,
    PRIMARY KEY (family, node, period, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0.1, toast.autovacuum_vacuum_threshold = 1000, toast.autovacuum_vacuum_cost_delay = 0
);
-- They are compressed already.
ALTER TABLE source_segments ALTER data SET STORAGE EXTERNAL, ALTER data SET STATISTICS 0;

CREATE UNIQUE INDEX source_segments_id ON source_segments (id);

DELETE FROM source_views;
DELETE FROM source_positions;
DELETE FROM source_marks;
DROP TABLE source_kinds;
DROP TABLE source_minutes;

-- `source_windows` and `source_past_days` remain for people and reporting tools; nothing else reads them. They hold the windows before
-- `rows_until`. While few sources are active a checkpoint writes them too, and `rows_until` is the largest number; otherwise they follow later.
ALTER TABLE source_views ADD COLUMN rows_until bigint NOT NULL DEFAULT 9223372036854775807;

-- Up to when `window_stats` and `daily_stats` are complete: events acknowledged before `as_of`, and windows that end at `windows_until` or
-- earlier (`infinity`: all windows).
CREATE VIEW stats_watermark AS
SELECT (SELECT to_timestamp(min(as_of_ms) / 1000.0) FROM source_positions) AS as_of,
    CASE WHEN rows_until < 1000000000 THEN to_timestamp(rows_until * 300) ELSE 'infinity' END AS windows_until
FROM source_views;
