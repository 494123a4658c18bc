-- The $1 sources with the most events: windows in [$2, $3) and [$4, $5), closed days in [$6, $7), and for days that are still
-- open their windows in [$8, $9).
SELECT source, sum(count)::bigint AS count FROM (
    SELECT source, count FROM source_windows
    WHERE (bucket >= $2 AND bucket < $3) OR (bucket >= $4 AND bucket < $5)
    UNION ALL SELECT source, count FROM source_past_days WHERE day >= $6 AND day < $7
    UNION ALL SELECT source, count FROM source_windows
    WHERE bucket >= greatest($8, (SELECT max(days_from) * 288 FROM source_views)) AND bucket < $9) AS pieces
GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $1
