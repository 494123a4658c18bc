-- The last number of each writer whose row was merged into row 0: its events are in the store, although its row is gone.
CREATE TABLE compacted_writers (
    id       INTEGER PRIMARY KEY,
    last_seq INTEGER NOT NULL
) STRICT;
