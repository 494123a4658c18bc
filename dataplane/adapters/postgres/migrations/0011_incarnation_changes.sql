-- The last change of an incarnation (docs/adr/0035-incarnations.md). Programs of an earlier version go on working: they note none.

-- Readers of the table queue behind a lock that is waited for. The next attempt follows within a second.
SET LOCAL lock_timeout = '1s';

-- What changed (1: the store, 2: the log; null: nothing yet), when that was noticed and when it was last noted, and how many phantom events
-- were sent to the dead letters because of it.
ALTER TABLE source_audit
    ADD COLUMN changed_incarnation smallint,
    ADD COLUMN change_noticed_ms   bigint NOT NULL DEFAULT 0,
    ADD COLUMN change_noted_ms     bigint NOT NULL DEFAULT 0,
    ADD COLUMN phantom_events      bigint NOT NULL DEFAULT 0;
