-- The $1 sources with the most events: windows in [$2, $3) and [$4, $5), days in [$6, $7).
SELECT source, sum(count) FROM (
    SELECT source, count FROM source_windows
    WHERE (bucket >= $2 AND bucket < $3) OR (bucket >= $4 AND bucket < $5)
    UNION ALL SELECT source, count FROM source_days WHERE day >= $6 AND day < $7)
GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $1
