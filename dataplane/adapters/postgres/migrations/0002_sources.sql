-- The views per source. Only processors write them, from the log. Counts and positions change in one transaction, so every event is
-- counted once; all of it can be rebuilt from `events`.
--
-- Names are compared byte by byte (COLLATE "C"): with a locale's rules a new row costs almost twice as much.

-- The generation of the views: one row once they were built. A transaction that changes counts locks it shared; a rebuild locks the
-- table exclusively. A day from `days_from` on is counted in its windows; an earlier one has a row of its own, which late events
-- correct. A day without windows (too old) always has a row of its own. This saves a row per event while a day is open.
CREATE TABLE source_views (
    generation     text    NOT NULL,
    -- Whether this generation holds unique sources per minute. All flushes into it must then include them.
    unique_sources boolean NOT NULL,
    days_from      bigint  NOT NULL DEFAULT 0
);

-- The next offset per partition of the log. Every event acknowledged before `as_of_ms` and published to the partition is counted.
CREATE TABLE source_positions (
    "partition" int    PRIMARY KEY,
    next        bigint NOT NULL,
    as_of_ms    bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- The last counted number of each writer: on one partition, or on all of them (partition -1) when the views were built.
CREATE TABLE source_marks (
    writer      bigint NOT NULL,
    "partition" int    NOT NULL,
    seq         bigint NOT NULL,
    PRIMARY KEY (writer, "partition")
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Five-minute windows; `bucket` is the start in units of five minutes since the epoch. One partition per day, so that expired days
-- are dropped as a whole: deleting row by row would cost as much as writing did and leave dead rows to vacuum.
CREATE TABLE source_windows (
    source   text COLLATE "C" NOT NULL,
    bucket   bigint NOT NULL,
    count    bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms  bigint NOT NULL,
    PRIMARY KEY (source, bucket)
) PARTITION BY RANGE (bucket);

-- Closed days, since the epoch, UTC. They are inserted in time order, so a BRIN index finds a day's rows at almost no cost per row.
CREATE TABLE source_past_days (
    source text COLLATE "C" NOT NULL,
    day    bigint NOT NULL,
    count  bigint NOT NULL,
    PRIMARY KEY (source, day)
) WITH (fillfactor = 80);

CREATE INDEX source_past_days_day ON source_past_days USING brin (day) WITH (pages_per_range = 32, autosummarize = on);

-- Events per source and kind, with the first and the last time. An empty kind means "ping".
CREATE TABLE source_kinds (
    source   text COLLATE "C" NOT NULL,
    kind     text COLLATE "C" NOT NULL,
    count    bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms  bigint NOT NULL,
    PRIMARY KEY (source, kind)
) WITH (fillfactor = 80);

-- The distinct sources of each minute of the last hour: a set, so that a replayed event changes nothing.
CREATE TABLE source_minutes (
    minute bigint NOT NULL,
    source text COLLATE "C" NOT NULL,
    PRIMARY KEY (minute, source)
);

-- Small statistics, as for `events`. Partitions of `source_windows` get theirs when they are created.
ALTER TABLE source_windows
    ALTER source SET STATISTICS 10, ALTER bucket SET STATISTICS 10, ALTER count SET STATISTICS 10,
    ALTER first_ms SET STATISTICS 10, ALTER last_ms SET STATISTICS 10;
ALTER TABLE source_kinds
    ALTER source SET STATISTICS 10, ALTER kind SET STATISTICS 10, ALTER count SET STATISTICS 10,
    ALTER first_ms SET STATISTICS 10, ALTER last_ms SET STATISTICS 10;

-- Readable views for people and reporting tools.
CREATE VIEW window_stats AS
SELECT source, to_timestamp(bucket * 300) AS window_start, to_timestamp((bucket + 1) * 300) AS window_end,
    count AS ping_count, (last_ms - first_ms)::double precision / nullif(count - 1, 0) AS avg_interval_ms
FROM source_windows;

CREATE VIEW daily_stats AS
SELECT source, date '1970-01-01' + day::int AS day, sum(count)::bigint AS ping_count FROM (
    SELECT source, day, count FROM source_past_days
    UNION ALL SELECT source, bucket / 288, count FROM source_windows
    WHERE bucket >= (SELECT max(days_from) FROM source_views) * 288) AS pieces
GROUP BY source, day;
