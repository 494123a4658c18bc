-- The accounts of the views, from one snapshot: 0 what is committed, 1 what checkpoints have added, 2 what segments hold.
-- `clock_timestamp()`, evaluated for each row of the answer, follows the snapshot.
WITH views AS MATERIALIZED (
    SELECT generation, built_at, (SELECT coalesce(min(as_of_ms), 0) FROM source_positions) AS as_of_ms FROM source_views),
accounts AS (
    SELECT 0 AS account, -1::smallint AS family, bucket AS period, coalesce(sum(attributed), 0)::bigint AS count,
        bool_or(attributed IS NULL AND touched_at >= built_at) AS outdated
    FROM rollups, views WHERE width_minutes = 1440 GROUP BY bucket
    UNION ALL
    SELECT CASE WHEN family < 0 THEN 0 ELSE 1 END, family, period, sum(count)::bigint, false
    FROM source_sums GROUP BY family, period
    UNION ALL
    SELECT 2, family, period, sum(events)::bigint, min(events) = 0 FROM source_segments WHERE family < 3 GROUP BY family, period)
SELECT generation, as_of_ms, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS until_ms,
    account, family, period, count, outdated
FROM views LEFT JOIN accounts ON true
