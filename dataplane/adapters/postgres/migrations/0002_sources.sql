-- The views per source, made by the processors from the log and never written by a server. Counts and positions change in one
-- statement, so every event is in them once; all of it can be made anew from `events`.

-- Which filling it is: one row once they were built. Whoever changes counts holds it shared, whoever builds anew alone.
CREATE TABLE source_views (
    generation     text    NOT NULL,
    -- Whether this generation holds unique sources per minute. All flushes into it must then include them.
    unique_sources boolean NOT NULL
);

-- Next offset per partition of the log.
CREATE TABLE source_positions (
    "partition" int    PRIMARY KEY,
    next        bigint NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- What was counted of each writer: on one partition, or on all of them (partition -1) when the views were built.
CREATE TABLE source_marks (
    writer      bigint NOT NULL,
    "partition" int    NOT NULL,
    seq         bigint NOT NULL,
    PRIMARY KEY (writer, "partition")
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Five-minute windows; `bucket` is the start in units of five minutes since the epoch. One partition per day, so that what is
-- too old is dropped as a file: deleting row by row would cost as much as writing did, and leave the vacuuming to do.
CREATE TABLE source_windows (
    source   text   NOT NULL,
    bucket   bigint NOT NULL,
    count    bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms  bigint NOT NULL,
    PRIMARY KEY (source, bucket)
) PARTITION BY RANGE (bucket);

-- Days since the epoch, UTC. They come in the order of time, so a BRIN finds a day's rows at the cost of nothing per row.
CREATE TABLE source_days (
    source text   NOT NULL,
    day    bigint NOT NULL,
    count  bigint NOT NULL,
    PRIMARY KEY (source, day)
) WITH (fillfactor = 80);

CREATE INDEX source_days_day ON source_days USING brin (day) WITH (pages_per_range = 32, autosummarize = on);

-- How often a source did what, first and last. An empty kind is "ping".
CREATE TABLE source_kinds (
    source   text   NOT NULL,
    kind     text   NOT NULL,
    count    bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms  bigint NOT NULL,
    PRIMARY KEY (source, kind)
) WITH (fillfactor = 80);

-- For people and their tools.
CREATE VIEW window_stats AS
SELECT source, to_timestamp(bucket * 300) AS window_start, to_timestamp((bucket + 1) * 300) AS window_end,
    count AS ping_count, (last_ms - first_ms)::double precision / nullif(count - 1, 0) AS avg_interval_ms
FROM source_windows;

CREATE VIEW daily_stats AS
SELECT source, date '1970-01-01' + day::int AS day, count AS ping_count FROM source_days;
