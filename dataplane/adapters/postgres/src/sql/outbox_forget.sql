-- Deletes the rows of writer $1 up to seq $2 and records the number, so that later searches skip the dead rows. Writes nothing if that was done.
WITH previous AS (SELECT coalesce((SELECT seq FROM published WHERE writer = $1), 0) AS seq),
record_published AS (
    INSERT INTO published AS p (writer, seq) SELECT $1, $2 FROM previous WHERE seq < $2
    ON CONFLICT (writer) DO UPDATE SET seq = greatest(p.seq, excluded.seq))
DELETE FROM outbox WHERE writer = $1 AND last_seq > (SELECT seq FROM previous) AND last_seq <= $2
