-- Settles claims on buckets: $1 names, $2 released, $3 need, $4 want, $5 capacity, in nanoseconds. Returns no row for a bucket that does not
-- exist. Rows are locked in the order of their names, so that servers cannot deadlock, and the time is read under the lock. The arithmetic is
-- that of `BucketClaim::settle`.
WITH claim AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
        WITH ORDINALITY AS c (bucket, released, need, want, capacity, position)),
locked AS MATERIALIZED (
    SELECT b.bucket, b.full_at, c.released, c.need, c.want, c.capacity, c.position
    FROM quota_buckets b JOIN claim c ON c.bucket = b.bucket ORDER BY b.bucket FOR UPDATE OF b),
timed AS MATERIALIZED (
    SELECT l.*, (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint AS now_ns FROM locked l),
due AS MATERIALIZED (
    SELECT t.*, greatest(greatest(full_at - now_ns, 0) - released, 0) AS full_in FROM timed t),
settled AS MATERIALIZED (
    SELECT d.bucket, d.position, d.now_ns, d.full_in,
        CASE WHEN d.need <= d.capacity - d.full_in THEN greatest(least(d.want, d.capacity - d.full_in), 0) ELSE 0 END AS granted
    FROM due d)
UPDATE quota_buckets b SET full_at = s.now_ns + s.full_in + s.granted
FROM settled s WHERE b.bucket = s.bucket
RETURNING s.position, s.granted, s.full_in + s.granted
