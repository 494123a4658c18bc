-- The last change of an incarnation (docs/adr/0035-incarnations.md): what changed (1: the store, 2: the log; null: nothing yet), when that was
-- noticed and when it was last noted, and how many phantom events were sent to the dead letters because of it.
ALTER TABLE source_audit ADD COLUMN changed_incarnation INTEGER;
ALTER TABLE source_audit ADD COLUMN change_noticed_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE source_audit ADD COLUMN change_noted_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE source_audit ADD COLUMN phantom_events INTEGER NOT NULL DEFAULT 0;
