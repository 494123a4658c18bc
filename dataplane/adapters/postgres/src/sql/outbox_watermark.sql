-- The store's time and the commit time of the oldest unpublished row: one index probe per writer that may have rows.
SELECT floor(extract(epoch FROM now()) * 1000)::bigint, min(oldest.committed_ms)
FROM writers w LEFT JOIN published p ON p.writer = w.id
CROSS JOIN LATERAL (
    SELECT committed_ms FROM outbox o WHERE o.writer = w.id AND o.last_seq > coalesce(p.seq, 0)
    ORDER BY o.last_seq LIMIT 1) AS oldest
WHERE w.last_seq > coalesce(p.seq, 0)
