-- Retention of events (docs/adr/0040-retention-of-raw-events.md). Programs of an earlier version go on working, until a processor partitions
-- `events`, which it does once retention is set for the first time.

-- Commits queue behind a lock that is waited for. The next attempt follows within a second.
SET LOCAL lock_timeout = '1s';

-- The day of the id, since the epoch; or -1: it has none, or a server of an earlier version wrote the row; or -2: it will be moved to a
-- partition of its own when the table is partitioned.
ALTER TABLE events ADD COLUMN id_day int NOT NULL DEFAULT -1;

-- The day of a version 7 UUID in the years 2020 to 2099, since the epoch; otherwise -1. The same as `id_day` in ping-core. One expression, and
-- not STRICT, so that the planner puts it in the place of a call.
CREATE FUNCTION event_id_day(id uuid) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN id >= '016f5e66-e800-0000-0000-000000000000' AND id < '03bb2cc3-d800-0000-0000-000000000000'
            AND substr(id::text, 15, 1) = '7' AND substr(id::text, 20, 1) IN ('8', '9', 'a', 'b')
        THEN (('x' || left(id::text, 8) || substr(id::text, 10, 4))::bit(48)::bigint / 86400000)::int
        ELSE -1 END
$$;

-- One row: how far back events are known one by one. Ids of days before `first_day` are refused, since `moved_ms`. Counts per millisecond
-- from before `milliseconds_from` are gone. Rows of ids before `cutover_day`, and of ids without a day, are in `events_before` once the
-- tables are partitioned. A program that drops rows, or reads all of them for a rebuild, locks this table.
CREATE TABLE event_retention (
    first_day         int,
    moved_ms          bigint  NOT NULL DEFAULT 0,
    milliseconds_from bigint  NOT NULL DEFAULT 0,
    cutover_day       int,
    partitioned       boolean NOT NULL DEFAULT false
);

INSERT INTO event_retention DEFAULT VALUES;

-- Events whose rows were dropped, per minute since the epoch; `attributed` are those with a source.
CREATE TABLE dropped_minutes (
    minute     bigint PRIMARY KEY,
    count      bigint NOT NULL,
    attributed bigint NOT NULL
);

-- What those events have contributed to the views per source: a rebuild begins with it. The columns are those of `source_segments`.
CREATE TABLE source_base (
    id     bigint   GENERATED ALWAYS AS IDENTITY,
    family smallint NOT NULL,
    node   int      NOT NULL,
    period bigint   NOT NULL,
    data   bytea    NOT NULL,
    events bigint   NOT NULL,
    digest bigint   NOT NULL,
    PRIMARY KEY (family, node, period, id)
);
ALTER TABLE source_base ALTER data SET STORAGE EXTERNAL, ALTER data SET STATISTICS 0;

CREATE UNIQUE INDEX source_base_id ON source_base (id);
