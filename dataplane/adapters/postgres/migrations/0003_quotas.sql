-- What servers share of the quotas in the access policy.

-- When a bucket will be full, in nanoseconds since the epoch; an absent one is full. Servers update a row up to 50 times per second, and
-- nothing depends on it after a crash but one burst, so it is not logged.
CREATE UNLOGGED TABLE quota_buckets (
    bucket  text COLLATE "C" PRIMARY KEY,
    full_at bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- How many new names a budget has admitted in a day, since the epoch, UTC.
CREATE TABLE quota_days (
    budget text COLLATE "C" NOT NULL,
    day    bigint NOT NULL,
    used   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (budget, day)
);

-- The names that it has admitted, until they are in the views for certain. A source has an empty kind and `is_kind` false.
CREATE TABLE quota_names (
    budget  text COLLATE "C" NOT NULL,
    source  text COLLATE "C" NOT NULL,
    is_kind boolean NOT NULL,
    kind    text COLLATE "C" NOT NULL,
    day     bigint NOT NULL,
    PRIMARY KEY (budget, source, is_kind, kind)
);

CREATE INDEX quota_names_day ON quota_names USING brin (day) WITH (pages_per_range = 32, autosummarize = on);
