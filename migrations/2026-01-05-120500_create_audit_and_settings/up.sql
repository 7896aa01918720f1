-- The trail. Ids begin with the time, so the primary key is also the order and what retention cuts by.
CREATE TABLE audit_records (
    id TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    event TEXT NOT NULL,
    outcome TEXT NOT NULL,
    client_id TEXT,
    account_id TEXT,
    username TEXT,
    source TEXT,
    address TEXT,
    reason TEXT,
    request_id TEXT,
    detail TEXT NOT NULL
);

-- What the nodes agree on beyond the configuration, such as the longest lifetime ever configured.
CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
