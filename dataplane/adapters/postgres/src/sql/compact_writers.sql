-- Merges writers that were closed more than $1 ms ago, and whose outbox is empty, into row 0. The lock on row 0 admits one server
-- at a time; the others find nothing to do.
WITH target AS MATERIALIZED (SELECT id FROM writers WHERE id = 0 FOR UPDATE SKIP LOCKED),
old AS MATERIALIZED (
    SELECT w.id, w.last_seq, w.total FROM target, writers w
    WHERE NOT w.open AND w.id <> 0 AND w.closed_at < now() - $1 * interval '1 ms'
        AND NOT EXISTS (SELECT FROM outbox o WHERE o.writer = w.id)
    FOR UPDATE OF w SKIP LOCKED),
removed_rollups AS (
    DELETE FROM rollups r USING old WHERE r.writer = old.id
    RETURNING r.width_minutes, r.bucket, r.count, r.attributed, r.touched_at),
merge_rollups AS (
    INSERT INTO rollups AS r (width_minutes, bucket, writer, count, attributed, touched_at)
    SELECT width_minutes, bucket, 0, sum(count)::bigint, coalesce(sum(attributed), 0)::bigint, max(touched_at) FROM removed_rollups GROUP BY 1, 2
    ON CONFLICT (width_minutes, bucket, writer)
    DO UPDATE SET count = r.count + excluded.count, attributed = coalesce(r.attributed, 0) + excluded.attributed,
        touched_at = greatest(r.touched_at, excluded.touched_at)),
delete_published AS (DELETE FROM published p USING old WHERE p.writer = old.id),
delete_writers AS (DELETE FROM writers w USING old WHERE w.id = old.id),
remember_writers AS (INSERT INTO compacted_writers (id, last_seq) SELECT id, last_seq FROM old),
add_to_target AS (
    UPDATE writers w SET total = w.total + (SELECT coalesce(sum(total), 0) FROM old)
    FROM target WHERE w.id = target.id)
SELECT id FROM old ORDER BY id
