-- Moves the positions from the expected offsets to the next ones; returns a row only if every expected position matched and the store has the events of all marks.
-- $1 generation, $2-$4 partitions with expected and next offsets, $5-$7 marks (writer, partition, seq), $8 watermark in ms.
--
-- The commit does not wait for the disk (synchronous_commit): a crash undoes counts and positions together, and the log still has the
-- events. The session time-out releases the locks of a client that is lost in the middle of its transaction.
WITH views AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true),
        set_config('idle_in_transaction_session_timeout', '10s', true),
        rows_until, export_until, exported, days_from, closed
    FROM source_views WHERE generation = $1 FOR SHARE),
expected AS MATERIALIZED (
    SELECT * FROM unnest($2::int[], $3::bigint[], $4::bigint[]) AS e ("partition", expected_offset, next_offset)),
locked AS MATERIALIZED (
    SELECT p."partition" FROM source_positions p JOIN expected e ON p."partition" = e."partition"
    WHERE p.next = e.expected_offset ORDER BY 1 FOR UPDATE OF p),
-- Events that the store does not have: it was restored after the caller had looked.
missing AS MATERIALIZED (
    SELECT FROM unnest($5::bigint[], $7::bigint[]) AS m (writer, seq)
    WHERE m.seq > greatest((SELECT last_seq FROM writers w WHERE w.id = m.writer),
        (SELECT last_seq FROM compacted_writers c WHERE c.id = m.writer), 0)),
fence AS MATERIALIZED (
    SELECT rows_until, export_until, exported, days_from, closed FROM views
    WHERE (SELECT count(*) FROM locked) = cardinality($2) AND NOT EXISTS (SELECT FROM missing)),
move_positions AS (
    UPDATE source_positions p SET next = e.next_offset, as_of_ms = greatest(p.as_of_ms, $8)
    FROM expected e, fence WHERE p."partition" = e."partition"),
raise_marks AS (
    INSERT INTO source_marks AS m (writer, "partition", seq)
    SELECT m.* FROM fence, unnest($5::bigint[], $6::int[], $7::bigint[]) AS m
    ON CONFLICT (writer, "partition") DO UPDATE SET seq = greatest(m.seq, excluded.seq))
SELECT rows_until, export_until, exported, days_from, closed FROM fence
