-- What the audit of the views compares (docs/adr/0038-audit-of-views.md).

-- Of the events that `count` includes, those with a source.
ALTER TABLE rollups ADD COLUMN attributed INTEGER NOT NULL DEFAULT 0;

-- The sum of a segment's counts, and a digest of all of it. 0 and 0: an earlier version wrote the segment, so the views are rebuilt.
ALTER TABLE source_segments ADD COLUMN events INTEGER NOT NULL DEFAULT 0;
ALTER TABLE source_segments ADD COLUMN digest INTEGER NOT NULL DEFAULT 0;

CREATE INDEX source_segments_sums ON source_segments (family, period, events);

-- Events that checkpoints have added to the views, per family and period of their segments. Changes in the transactions that add segments, and
-- not in merges. Family -1 is not a family of segments: events per day that `rollups.attributed` lacked when the views were rebuilt.
CREATE TABLE source_sums (
    family INTEGER NOT NULL,
    period INTEGER NOT NULL,
    count  INTEGER NOT NULL,
    PRIMARY KEY (family, period)
) STRICT, WITHOUT ROWID;

-- The result of the last audit. `suspect`: it found a difference.
CREATE TABLE source_audit (
    suspect    INTEGER NOT NULL,
    audited_ms INTEGER
) STRICT;

INSERT INTO source_audit VALUES (0, NULL);
