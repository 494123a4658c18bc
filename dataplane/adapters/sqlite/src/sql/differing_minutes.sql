-- Minutes whose rollup or millisecond counts differ from their rows.
WITH event_rows AS (SELECT timestamp_ms / 60000 AS minute, count(*) AS count FROM events GROUP BY 1),
rolled_up AS (SELECT bucket AS minute, count FROM rollups WHERE width_minutes = 1),
by_millisecond AS (SELECT timestamp_ms / 60000 AS minute, sum(count) AS count FROM millisecond_counts GROUP BY 1),
minutes AS (SELECT minute FROM event_rows UNION SELECT minute FROM rolled_up UNION SELECT minute FROM by_millisecond)
SELECT minute FROM minutes
    LEFT JOIN event_rows USING (minute) LEFT JOIN rolled_up USING (minute) LEFT JOIN by_millisecond USING (minute)
WHERE coalesce(event_rows.count, 0) <> coalesce(rolled_up.count, 0)
    OR coalesce(event_rows.count, 0) <> coalesce(by_millisecond.count, 0)
ORDER BY minute LIMIT 100
