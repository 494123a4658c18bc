-- Well-known queries over `pings (id, pinged_at)`, as texts: the usual form of a UUID, and a time in UTC that SQLite's functions understand. It
-- has no index: a range of time reads every event, where PingCount reads rollups.
CREATE VIEW pings AS
SELECT lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-' || substr(hex(id), 17, 4) || '-'
        || substr(hex(id), 21)) AS id,
    strftime('%Y-%m-%d %H:%M:%f', timestamp_ms / 1000.0, 'unixepoch') AS pinged_at
FROM events;
