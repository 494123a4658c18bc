-- The total, the minutes since $1 (and older ones touched within the last $2 ms, if $2 > 0), and every live writer.
-- `now()` precedes the statement's snapshot; `clock_timestamp()`, evaluated for the row of the answer, follows it.
-- Touched minutes are searched for among all minutes; only a rebuild of the cache asks for them.
WITH wanted AS (
    SELECT bucket, sum(count)::bigint AS count FROM rollups WHERE width_minutes = 1 AND bucket >= $1 GROUP BY bucket
    UNION ALL
    SELECT bucket, sum(count)::bigint FROM rollups WHERE width_minutes = 1 AND bucket < $1 AND $2 > 0
    GROUP BY bucket HAVING max(touched_at) >= now() - $2 * interval '1 ms'),
live AS (SELECT id, last_seq FROM writers WHERE id <> 0)
SELECT floor(extract(epoch FROM now()) * 1000)::bigint AS now_ms,
    floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS until_ms,
    (SELECT coalesce(sum(total), 0)::bigint FROM writers) AS total,
    ARRAY(SELECT bucket FROM wanted ORDER BY bucket) AS minutes,
    ARRAY(SELECT count FROM wanted ORDER BY bucket) AS counts,
    ARRAY(SELECT id FROM live ORDER BY id) AS writers,
    ARRAY(SELECT last_seq FROM live ORDER BY id) AS seqs
