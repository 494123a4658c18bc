-- Windows and days for SQL are exported in parts, between which checkpoints go on (docs/adr/0031-segments.md).

-- Checkpoints queue behind a lock that is waited for. The next attempt follows within a second.
SET LOCAL lock_timeout = '1s';

-- Windows from `rows_until` to before `export_until` have rows of the sources whose hash is below `exported`, and the day `days_from` of those
-- whose hash is below `closed`. A processor of an earlier version does not know that: if it writes a checkpoint or closes a day meanwhile, the
-- audit finds the difference, and the views are rebuilt.
ALTER TABLE source_views
    ADD COLUMN export_until bigint NOT NULL DEFAULT 0,
    ADD COLUMN exported     bigint NOT NULL DEFAULT 0,
    ADD COLUMN closed       bigint NOT NULL DEFAULT 0;

-- A day is counted in rows of its own once all of them are there.
CREATE OR REPLACE VIEW daily_stats AS
SELECT source, date '1970-01-01' + day::int AS day, sum(count)::bigint AS ping_count FROM (
    SELECT source, day, count FROM source_past_days WHERE day < (SELECT max(days_from) FROM source_views)
    UNION ALL SELECT source, bucket / 288, count FROM source_windows
    WHERE bucket >= (SELECT max(days_from) FROM source_views) * 288) AS pieces
GROUP BY source, day;
