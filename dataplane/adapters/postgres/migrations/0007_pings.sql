-- Well-known queries over `pings (id, pinged_at)`. It has no index: a range of time reads every event, where PingCount reads rollups. A database
-- that has a table of that name, from which events are imported, keeps it.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname = 'pings'
    ) THEN
        CREATE VIEW pings AS SELECT id, to_timestamp(timestamp_ms / 1000.0) AS pinged_at FROM events;
    END IF;
END
$$;
