-- Days are added up from their windows when they are over: a row less to write for each event. From `days_from` on a day's count
-- is in its windows, before it in a row of its own (which late events correct). What has no windows any more, or never had any,
-- has its row whenever it is.
ALTER TABLE source_views ADD COLUMN days_from bigint NOT NULL DEFAULT 0;

-- Another name, so that a program of before, which would write every day's row, writes none.
DROP VIEW daily_stats;
ALTER TABLE source_days RENAME TO source_past_days;
ALTER INDEX source_days_pkey RENAME TO source_past_days_pkey;
ALTER INDEX source_days_day RENAME TO source_past_days_day;

CREATE VIEW daily_stats AS
SELECT source, date '1970-01-01' + day::int AS day, sum(count)::bigint AS ping_count FROM (
    SELECT source, day, count FROM source_past_days
    UNION ALL SELECT source, bucket / 288, count FROM source_windows
    WHERE bucket >= (SELECT max(days_from) FROM source_views) * 288) AS pieces
GROUP BY source, day;

-- They are made from the log: the processors build everything anew.
DELETE FROM source_views;
