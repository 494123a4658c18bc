-- Who was there in which minute, of the last hour.
CREATE TABLE source_minutes (
    minute INTEGER NOT NULL,
    source TEXT    NOT NULL,
    PRIMARY KEY (minute, source)
) STRICT, WITHOUT ROWID;
