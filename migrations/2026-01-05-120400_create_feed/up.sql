-- The feed of revocations and changes. Its one row is written by the program, since its id is random.
CREATE TABLE feed (
    id TEXT NOT NULL PRIMARY KEY,
    head BIGINT NOT NULL
);

CREATE TABLE feed_entries (
    n BIGINT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    until BIGINT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX feed_entries_by_value ON feed_entries (kind, value);
CREATE INDEX feed_entries_by_expiry ON feed_entries (until);
