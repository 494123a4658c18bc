-- Minutes whose rollup or millisecond counts differ from their events. Those whose rows were dropped count as they did then.
WITH all_events AS (
    SELECT minute, sum(count) AS count FROM (
        SELECT timestamp_ms / 60000 AS minute, count(*) AS count FROM events GROUP BY 1
        UNION ALL SELECT minute, count FROM dropped_minutes)
    GROUP BY 1),
rolled_up AS (SELECT bucket AS minute, count FROM rollups WHERE width_minutes = 1),
by_millisecond AS (SELECT timestamp_ms / 60000 AS minute, sum(count) AS count FROM millisecond_counts GROUP BY 1),
minutes AS (SELECT minute FROM all_events UNION SELECT minute FROM rolled_up UNION SELECT minute FROM by_millisecond)
SELECT minute FROM event_retention, minutes
    LEFT JOIN all_events USING (minute) LEFT JOIN rolled_up USING (minute) LEFT JOIN by_millisecond USING (minute)
WHERE coalesce(all_events.count, 0) <> coalesce(rolled_up.count, 0)
    OR minute >= milliseconds_from / 60000 AND coalesce(all_events.count, 0) <> coalesce(by_millisecond.count, 0)
ORDER BY minute LIMIT 100
