-- Rows of writer $1 after seq $2 until they hold $3 events. A writer's numbers have no gaps, so the row that reaches the limit
-- is found by its number.
WITH first AS (
    SELECT first_seq FROM outbox WHERE writer = $1 AND last_seq > $2 ORDER BY last_seq LIMIT 1),
last AS (
    SELECT last_seq FROM outbox WHERE writer = $1 AND last_seq >= (SELECT first_seq + $3 - 1 FROM first)
    ORDER BY last_seq LIMIT 1)
SELECT first_seq, partitions, "partition", committed_ms, known, payload FROM outbox
WHERE writer = $1 AND last_seq > $2 AND last_seq <= coalesce((SELECT last_seq FROM last), 9223372036854775807)
ORDER BY last_seq
