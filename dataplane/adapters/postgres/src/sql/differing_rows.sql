-- Days from $1 to before $2 whose rows for SQL differ from what checkpoints have added. The last windows and days may be incomplete:
-- `rows_until` and `days_from` say from when on. Windows before the first that was added have expired, and are dropped when no one reads them.
WITH added AS (
    SELECT family, period, sum(count)::bigint AS count FROM source_sums
    WHERE family IN (1, 2) AND period >= $1 AND period < $2 GROUP BY family, period),
held AS (
    SELECT 1::smallint AS family, bucket / 288 AS period, sum(count)::bigint AS count FROM source_windows
    WHERE bucket >= $1 * 288 AND bucket < $2 * 288 GROUP BY 2
    UNION ALL
    SELECT 2::smallint, day, sum(count)::bigint FROM source_past_days WHERE day >= $1 AND day < $2 GROUP BY day)
SELECT family, period, coalesce(added.count, 0), coalesce(held.count, 0)
FROM source_views, added FULL JOIN held USING (family, period)
WHERE coalesce(added.count, 0) <> coalesce(held.count, 0)
    AND CASE family
        WHEN 1 THEN period >= (SELECT min(period) FROM source_sums WHERE family = 1) AND period < rows_until / 288
        ELSE period < days_from END
ORDER BY family, period
