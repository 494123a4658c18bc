-- Every event acknowledged before this time, and published to this partition of the log, is in the views.
ALTER TABLE source_positions ADD COLUMN as_of_ms bigint NOT NULL DEFAULT 0;

-- Names are compared byte by byte: by a locale's rules a new row costs almost twice as much.
DROP VIEW window_stats, daily_stats;
ALTER TABLE source_windows ALTER COLUMN source TYPE text COLLATE "C";
ALTER TABLE source_days ALTER COLUMN source TYPE text COLLATE "C";
ALTER TABLE source_kinds ALTER COLUMN source TYPE text COLLATE "C", ALTER COLUMN kind TYPE text COLLATE "C";
ALTER TABLE source_minutes ALTER COLUMN source TYPE text COLLATE "C";

CREATE VIEW window_stats AS
SELECT source, to_timestamp(bucket * 300) AS window_start, to_timestamp((bucket + 1) * 300) AS window_end,
    count AS ping_count, (last_ms - first_ms)::double precision / nullif(count - 1, 0) AS avg_interval_ms
FROM source_windows;

CREATE VIEW daily_stats AS
SELECT source, date '1970-01-01' + day::int AS day, count AS ping_count FROM source_days;
