-- The views per source, made by the processor from the log. Counts and positions change in one transaction. The log of the
-- embedded mode begins anew at each start, and so do they: from `events`.

-- Which filling it is: one row once they were built.
CREATE TABLE source_views (
    generation     TEXT    NOT NULL,
    -- Whether this generation holds unique sources per minute (0 or 1). All flushes into it must then include them.
    unique_sources INTEGER NOT NULL
) STRICT;

-- Next offset per partition of the log.
CREATE TABLE source_positions (
    "partition" INTEGER NOT NULL PRIMARY KEY,
    next        INTEGER NOT NULL
) STRICT;

-- What was counted of each writer: on one partition, or on all of them (partition -1) when the views were built.
CREATE TABLE source_marks (
    writer      INTEGER NOT NULL,
    "partition" INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    PRIMARY KEY (writer, "partition")
) STRICT, WITHOUT ROWID;

-- Five-minute windows; `bucket` is the start in units of five minutes since the epoch.
CREATE TABLE source_windows (
    source   TEXT    NOT NULL,
    bucket   INTEGER NOT NULL,
    count    INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL,
    PRIMARY KEY (source, bucket)
) STRICT, WITHOUT ROWID;

-- Days since the epoch, UTC.
CREATE TABLE source_days (
    source TEXT    NOT NULL,
    day    INTEGER NOT NULL,
    count  INTEGER NOT NULL,
    PRIMARY KEY (source, day)
) STRICT, WITHOUT ROWID;

-- How often a source did what, first and last. An empty kind is "ping".
CREATE TABLE source_kinds (
    source   TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    count    INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL,
    PRIMARY KEY (source, kind)
) STRICT, WITHOUT ROWID;
