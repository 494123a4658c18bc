-- Counts every row and compares the result with all sums, minute by minute. Events whose rows were dropped count as they did then.
WITH event_rows AS MATERIALIZED (
    SELECT timestamp_ms / 60000 AS minute, count(*) AS count FROM events GROUP BY 1),
all_events AS MATERIALIZED (
    SELECT minute, sum(count) AS count FROM (SELECT * FROM event_rows UNION ALL SELECT minute, count FROM dropped_minutes) AS parts
    GROUP BY 1),
rolled_up AS MATERIALIZED (
    SELECT bucket AS minute, sum(count) AS count FROM rollups WHERE width_minutes = 1 GROUP BY 1),
by_millisecond AS MATERIALIZED (
    SELECT timestamp_ms / 60000 AS minute, sum(count) AS count FROM millisecond_counts GROUP BY 1)
SELECT (SELECT coalesce(sum(count), 0)::bigint FROM event_rows) AS rows,
    (SELECT coalesce(sum(count), 0)::bigint FROM dropped_minutes) AS dropped,
    (SELECT coalesce((max(minute) + 1) * 60000, 0) FROM dropped_minutes) AS dropped_until,
    (SELECT coalesce(sum(total), 0)::bigint FROM writers) AS total,
    (SELECT coalesce(sum(count), 0)::bigint FROM rolled_up) AS minutes_total,
    (SELECT coalesce(sum(count), 0)::bigint FROM rollups WHERE width_minutes = 1440) AS days_total,
    ARRAY(
        SELECT minute
        FROM all_events FULL JOIN rolled_up USING (minute) FULL JOIN by_millisecond USING (minute)
        WHERE coalesce(all_events.count, 0) <> coalesce(rolled_up.count, 0)
            OR minute >= milliseconds_from / 60000 AND coalesce(all_events.count, 0) <> coalesce(by_millisecond.count, 0)
        ORDER BY minute LIMIT 100) AS differing
FROM event_retention
