-- Lends one closed writer that still has outbox rows to the caller, for $1 ms.
WITH orphan AS (
    SELECT w.id FROM writers w LEFT JOIN published p ON p.writer = w.id
    WHERE NOT w.open AND w.lent_until <= now() AND w.last_seq > coalesce(p.seq, 0)
        AND EXISTS (SELECT FROM outbox o WHERE o.writer = w.id AND o.last_seq > coalesce(p.seq, 0))
    ORDER BY w.id LIMIT 1 FOR UPDATE OF w SKIP LOCKED)
UPDATE writers w SET lent_until = now() + $1 * interval '1 ms' FROM orphan WHERE w.id = orphan.id RETURNING w.id
