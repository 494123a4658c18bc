-- Commits a batch whose events have sources or kinds. Only events whose ids are new are counted; the others are
-- returned as known. An id that another lane is inserting is waited for.
-- $1 writer, $2 first seq, $3 last seq, $4 lease in ms, $5 partitions, $6 partition, $7 payload, $8 ids, $9 timestamps,
-- $10 sources, $11 kinds, $12 days of the ids.
WITH fence AS MATERIALIZED (SELECT id AS writer FROM writers WHERE id = $1 AND open AND last_seq = $2 - 1 FOR UPDATE),
inserted AS (
    INSERT INTO events (id, timestamp_ms, source, kind, id_day)
    SELECT id, timestamp_ms, nullif(source, ''), nullif(kind, ''), id_day
    FROM fence, unnest($8::uuid[], $9::bigint[], $10::text[], $11::text[], $12::int[]) AS e (id, timestamp_ms, source, kind, id_day)
    ON CONFLICT DO NOTHING RETURNING id, timestamp_ms, source),
new_counts AS MATERIALIZED (
    SELECT timestamp_ms, count(*) AS count, count(source) AS attributed FROM inserted GROUP BY 1),
insert_millisecond_counts AS (
    INSERT INTO millisecond_counts (timestamp_ms, count) SELECT timestamp_ms, count FROM new_counts),
add_to_rollups AS (
    INSERT INTO rollups AS r (width_minutes, bucket, writer, count, attributed, touched_at)
    SELECT 1, timestamp_ms / 60000, $1, sum(count)::bigint, sum(attributed)::bigint, now() FROM new_counts GROUP BY 2
    UNION ALL
    SELECT 1440, timestamp_ms / 86400000, $1, sum(count)::bigint, sum(attributed)::bigint, now() FROM new_counts GROUP BY 2
    ON CONFLICT (width_minutes, bucket, writer)
    DO UPDATE SET count = r.count + excluded.count, attributed = r.attributed + excluded.attributed,
        touched_at = excluded.touched_at),
new_total AS MATERIALIZED (SELECT coalesce(sum(count), 0)::bigint AS count FROM new_counts),
update_writer AS (
    UPDATE writers w SET last_seq = $3, total = w.total + (SELECT count FROM new_total),
        lease_until = now() + $4 * interval '1 ms'
    FROM fence WHERE w.id = fence.writer),
outcome AS MATERIALIZED (
    SELECT writer, floor(extract(epoch FROM now()) * 1000)::bigint AS committed_ms,
        CASE WHEN (SELECT count FROM new_total) < cardinality($8)
            THEN ARRAY(SELECT unnest($8) EXCEPT SELECT id FROM inserted) END AS known
    FROM fence),
insert_outbox AS (
    INSERT INTO outbox (writer, first_seq, last_seq, partitions, "partition", committed_ms, known, payload)
    SELECT writer, $2, $3, $5, $6, committed_ms, known, $7 FROM outcome)
SELECT committed_ms, known FROM outcome
