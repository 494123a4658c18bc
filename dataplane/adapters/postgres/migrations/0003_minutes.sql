-- Who was there in which minute, of the last hour: a set, so that an event counts once for its minute however often it comes.
CREATE TABLE source_minutes (
    minute bigint NOT NULL,
    source text   NOT NULL,
    PRIMARY KEY (minute, source)
);

-- They are made from the log: the processors build everything anew.
DELETE FROM source_views;
