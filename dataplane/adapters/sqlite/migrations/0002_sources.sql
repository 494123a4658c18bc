-- The views per source. The processor writes them, from the log; counts and positions change in one transaction. The log of the
-- embedded mode starts empty each time, so the views are rebuilt from `events` at every start.

-- The generation of the views: one row once they were built.
CREATE TABLE source_views (
    generation     TEXT    NOT NULL,
    -- Whether this generation holds unique sources per minute (0 or 1). All flushes into it must then include them.
    unique_sources INTEGER NOT NULL
) STRICT;

-- The next offset per partition of the log. Every event acknowledged before `as_of_ms` and published to the partition is counted.
CREATE TABLE source_positions (
    "partition" INTEGER NOT NULL PRIMARY KEY,
    next        INTEGER NOT NULL,
    as_of_ms    INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The last counted number of each writer: on one partition, or on all of them (partition -1) when the views were built.
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

-- Events per source and kind, with the first and the last time. An empty kind means "ping".
CREATE TABLE source_kinds (
    source   TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    count    INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL,
    PRIMARY KEY (source, kind)
) STRICT, WITHOUT ROWID;

-- The distinct sources of each minute of the last hour.
CREATE TABLE source_minutes (
    minute INTEGER NOT NULL,
    source TEXT    NOT NULL,
    PRIMARY KEY (minute, source)
) STRICT, WITHOUT ROWID;
