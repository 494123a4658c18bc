-- Events in a range: the millisecond ranges [$1, $2) at its edges, and the buckets [$4, $5) of width $3 between them. Null if counts per
-- millisecond that it needs were dropped: the second column is the time from which on they are kept. The third is
-- when this statement began, before its snapshot.
SELECT CASE WHEN EXISTS (SELECT FROM unnest($1::bigint[]) AS piece (start) WHERE start < milliseconds_from) THEN NULL ELSE
    coalesce((SELECT sum(edge.count) FROM unnest($1::bigint[], $2::bigint[]) AS piece (start, stop), LATERAL (
        SELECT sum(m.count) AS count FROM millisecond_counts m
        WHERE m.timestamp_ms >= piece.start AND m.timestamp_ms < piece.stop) AS edge), 0)
    + coalesce((SELECT sum(middle.count) FROM unnest($3::int[], $4::bigint[], $5::bigint[]) AS piece (width, start, stop), LATERAL (
        SELECT sum(r.count) AS count FROM rollups r
        WHERE r.width_minutes = piece.width AND r.bucket >= piece.start AND r.bucket < piece.stop) AS middle), 0)
END::bigint, milliseconds_from, floor(extract(epoch FROM now()) * 1000)::bigint FROM event_retention
