-- Events of source $1 per day in [$2, $3). Days that are still open are summed from their windows in [$4, $5).
SELECT day, sum(count)::bigint FROM (
    SELECT day, count FROM source_past_days WHERE source = $1 AND day >= $2 AND day < $3
    UNION ALL SELECT bucket / 288, count FROM source_windows
    WHERE source = $1 AND bucket >= greatest($4, (SELECT max(days_from) * 288 FROM source_views)) AND bucket < $5
) AS pieces GROUP BY 1
