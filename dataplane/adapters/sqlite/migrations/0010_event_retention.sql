-- Retention of events (docs/adr/0040-retention-of-raw-events.md).

-- One row: how far back events are known one by one. Ids of days before `first_day` are refused, since `moved_ms`. Counts per millisecond
-- from before `milliseconds_from` are gone.
CREATE TABLE event_retention (
    first_day         INTEGER,
    moved_ms          INTEGER NOT NULL DEFAULT 0,
    milliseconds_from INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO event_retention (first_day) VALUES (NULL);

-- Events whose rows were dropped, per minute since the epoch; `attributed` are those with a source.
CREATE TABLE dropped_minutes (
    minute     INTEGER PRIMARY KEY,
    count      INTEGER NOT NULL,
    attributed INTEGER NOT NULL
) STRICT;

-- What those events have contributed to the views per source: a rebuild begins with it. The columns are those of `source_segments`.
CREATE TABLE source_base (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    family INTEGER NOT NULL,
    node   INTEGER NOT NULL,
    period INTEGER NOT NULL,
    data   BLOB    NOT NULL,
    events INTEGER NOT NULL,
    digest INTEGER NOT NULL
) STRICT;

CREATE INDEX source_base_place ON source_base (family, node, period);
