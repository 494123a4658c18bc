-- Detecting that the store was restored to an earlier time (docs/adr/0035-incarnations.md). Whatever is derived from the log knows the last
-- number of each writer that it has counted. If the store has a lower one, it has gone back.

-- That needs writer ids that no restored store issues again: microseconds since the epoch, then 11 random bits.
ALTER TABLE writers ALTER id DROP IDENTITY;
ALTER TABLE writers ALTER id
    SET DEFAULT ((floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint << 11) | floor(random() * 2048)::bigint);

-- The last number of each writer whose row was merged into row 0: its events are in the store, although its row is gone. One row per start of
-- a lane.
CREATE TABLE compacted_writers (
    id       bigint PRIMARY KEY,
    last_seq bigint NOT NULL
);

-- Writers that were merged before and that the views remember.
INSERT INTO compacted_writers (id, last_seq)
SELECT m.writer, max(m.seq) FROM source_marks m WHERE NOT EXISTS (SELECT 1 FROM writers w WHERE w.id = m.writer) GROUP BY m.writer;
