-- Commits a batch without sources and kinds, assuming that every event is new: a stored id fails the whole statement.
-- $1 writer, $2 first seq, $3 last seq, $4 lease in ms, $5 partitions, $6 partition, $7 payload, $8 ids, $9 timestamps,
-- $10-$11 counts per millisecond, $12-$14 rollups, $15 day of all ids.
WITH fence AS (
    -- Without a row nothing below happens: the writer is closed, or is not where its lane left it, because the store was restored.
    -- Closing waits for this row's lock.
    UPDATE writers SET last_seq = $3, total = total + cardinality($8), lease_until = now() + $4 * interval '1 ms'
    WHERE id = $1 AND open AND last_seq = $2 - 1 RETURNING id AS writer),
insert_events AS (
    INSERT INTO events (id, timestamp_ms, id_day)
    SELECT id, timestamp_ms, $15::int FROM fence, unnest($8::uuid[], $9::bigint[]) AS e (id, timestamp_ms)),
insert_millisecond_counts AS (
    INSERT INTO millisecond_counts (timestamp_ms, count)
    SELECT timestamp_ms, count FROM fence, unnest($10::bigint[], $11::bigint[]) AS m (timestamp_ms, count)),
add_to_rollups AS (
    INSERT INTO rollups AS r (width_minutes, bucket, writer, count, attributed, touched_at)
    SELECT width_minutes, bucket, writer, count, 0, now()
    FROM fence, unnest($12::int[], $13::bigint[], $14::bigint[]) AS b (width_minutes, bucket, count)
    ON CONFLICT (width_minutes, bucket, writer)
    DO UPDATE SET count = r.count + excluded.count, touched_at = excluded.touched_at),
outcome AS MATERIALIZED (
    SELECT writer, floor(extract(epoch FROM now()) * 1000)::bigint AS committed_ms, NULL::uuid[] AS known FROM fence),
insert_outbox AS (
    INSERT INTO outbox (writer, first_seq, last_seq, partitions, "partition", committed_ms, known, payload)
    SELECT writer, $2, $3, $5, $6, committed_ms, known, $7 FROM outcome)
SELECT committed_ms, known FROM outcome
