-- What the audit of the views compares (docs/adr/0038-audit-of-views.md). Programs of an earlier version go on working: they leave the new
-- columns at their defaults, by which the audit recognizes that the views have to be rebuilt once before they can be compared.

-- Of the events that `count` includes, those with a source. Null: a server of an earlier version wrote the row.
ALTER TABLE rollups ADD COLUMN attributed bigint;

-- The sum of a segment's counts, and a digest of all of it. 0 and 0: a processor of an earlier version wrote the segment.
ALTER TABLE source_segments
    ADD COLUMN events bigint NOT NULL DEFAULT 0,
    ADD COLUMN digest bigint NOT NULL DEFAULT 0;

-- The audit sums the segments of each period once per second, from this index alone.
CREATE INDEX source_segments_sums ON source_segments (family, period) INCLUDE (events);

-- Events that checkpoints have added to the views, per family and period of their segments. Changes in the transactions that add segments, and
-- not in merges. One row per partition, the first one of the checkpoint, so that concurrent checkpoints do not wait for each other; a rebuild
-- writes partition -1. Family -1 is not a family of segments: events per day that `rollups.attributed` lacked at the rebuild.
CREATE TABLE source_sums (
    family      smallint NOT NULL,
    period      bigint   NOT NULL,
    "partition" int      NOT NULL,
    count       bigint   NOT NULL,
    PRIMARY KEY (family, period, "partition")
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- When the views were built.
ALTER TABLE source_views ADD COLUMN built_at timestamptz NOT NULL DEFAULT '-infinity';

-- The result of the last audit. `suspect`: it found a difference.
CREATE TABLE source_audit (
    suspect    boolean NOT NULL,
    audited_ms bigint
);

INSERT INTO source_audit VALUES (false, NULL);
