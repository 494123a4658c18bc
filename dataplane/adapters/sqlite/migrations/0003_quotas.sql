-- What remains of the quotas in the access policy when the process restarts.

-- When a bucket will be full, in nanoseconds since the epoch; an absent one is full.
CREATE TABLE quota_buckets (
    bucket  TEXT    NOT NULL PRIMARY KEY,
    full_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The new names that a budget has admitted, by day since the epoch, UTC. A source has an empty kind and `is_kind` 0.
CREATE TABLE quota_names (
    budget  TEXT    NOT NULL,
    day     INTEGER NOT NULL,
    source  TEXT    NOT NULL,
    is_kind INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    PRIMARY KEY (budget, day, source, is_kind, kind)
) STRICT, WITHOUT ROWID;
