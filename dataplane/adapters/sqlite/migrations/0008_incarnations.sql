-- The last number of each writer whose row was merged into row 0: its events are in the store, although its row is gone.
CREATE TABLE compacted_writers (
    id       INTEGER PRIMARY KEY,
    last_seq INTEGER NOT NULL
) STRICT;

-- Writers that were merged before and that the views remember.
INSERT INTO compacted_writers (id, last_seq)
SELECT m.writer, max(m.seq) FROM source_marks m WHERE NOT EXISTS (SELECT 1 FROM writers w WHERE w.id = m.writer) GROUP BY m.writer;
