-- Windows for SQL are exported in parts, between which checkpoints go on (docs/adr/0031-segments.md).

-- Checkpoints queue behind a lock that is waited for. The next attempt follows within a second.
SET LOCAL lock_timeout = '1s';

-- Windows from `rows_until` to before `export_until` have rows of the sources whose hash is below `exported`. While a processor of an earlier
-- version writes checkpoints, these rows may lack counts. The audit then finds the difference, and the views are rebuilt.
ALTER TABLE source_views
    ADD COLUMN export_until bigint NOT NULL DEFAULT 0,
    ADD COLUMN exported     bigint NOT NULL DEFAULT 0;
