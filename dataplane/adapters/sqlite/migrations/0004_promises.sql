-- Every event acknowledged before this time, and published to this partition of the log, is in the views.
ALTER TABLE source_positions ADD COLUMN as_of_ms INTEGER NOT NULL DEFAULT 0;
