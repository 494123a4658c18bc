-- The views per source are kept as segments (docs/adr/0031-segments.md) instead of rows. The next start builds them.

-- Compressed lists of counts. All segments of a source add up to its counts. `family` says what they count, `node` whose counts they are,
-- `period` of which day or minute. An `id` is never used again.
CREATE TABLE source_segments (
    id     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    family INTEGER NOT NULL,
    node   INTEGER NOT NULL,
    period INTEGER NOT NULL,
    data   BLOB    NOT NULL
) STRICT;

CREATE INDEX source_segments_place ON source_segments (family, node, period);

DELETE FROM source_views;
DELETE FROM source_positions;
DELETE FROM source_marks;
DROP TABLE source_windows;
DROP TABLE source_days;
DROP TABLE source_kinds;
DROP TABLE source_minutes;
