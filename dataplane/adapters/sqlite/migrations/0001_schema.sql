-- The embedded store of record. One process writes it, so counts need no row per writer.

-- One row per writer session of a lane; ids are never reused. Row 0 holds the totals of compacted writers.
CREATE TABLE writers (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    open        INTEGER NOT NULL DEFAULT 1,
    last_seq    INTEGER NOT NULL DEFAULT 0,
    total       INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER NOT NULL,
    lent_until  INTEGER NOT NULL DEFAULT 0,
    closed_ms   INTEGER
) STRICT;

INSERT INTO writers (id, open, lease_until, closed_ms) VALUES (0, 0, 0, 0);

-- The events, one row per id. `source` is null when the client named none; a null `kind` means "ping".
CREATE TABLE events (
    id           BLOB    NOT NULL PRIMARY KEY,
    timestamp_ms INTEGER NOT NULL,
    source       TEXT,
    kind         TEXT
) STRICT, WITHOUT ROWID;

-- Events per millisecond: they answer for the edges of a range, which are shorter than a minute.
CREATE TABLE millisecond_counts (
    timestamp_ms INTEGER NOT NULL PRIMARY KEY,
    count        INTEGER NOT NULL
) STRICT;

-- Counts per minute (width 1) and day (width 1440).
CREATE TABLE rollups (
    width_minutes INTEGER NOT NULL,
    bucket        INTEGER NOT NULL,
    count         INTEGER NOT NULL,
    touched_ms    INTEGER NOT NULL,
    PRIMARY KEY (width_minutes, bucket)
) STRICT, WITHOUT ROWID;

-- One row per commit that the log may not have yet. `payload` is an EventBatch of event.proto without writer and seq; `known` lists
-- the ids in it that were stored before and must not be published, 16 bytes each.
CREATE TABLE outbox (
    writer       INTEGER NOT NULL,
    first_seq    INTEGER NOT NULL,
    last_seq     INTEGER NOT NULL,
    partitions   INTEGER NOT NULL,
    "partition"  INTEGER NOT NULL,
    committed_ms INTEGER NOT NULL,
    known        BLOB    NOT NULL,
    payload      BLOB    NOT NULL,
    PRIMARY KEY (writer, last_seq)
) STRICT;
