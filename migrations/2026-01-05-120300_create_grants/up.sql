-- One sign-in of a person, one row. `record` is JSON: the groups, rules and upstream token that it rests on.
CREATE TABLE grants (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    client_id TEXT NOT NULL,
    source TEXT NOT NULL,
    scope TEXT NOT NULL,
    record TEXT NOT NULL,
    rv BIGINT NOT NULL,
    auth_time BIGINT NOT NULL,
    identity_checked_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX grants_by_account ON grants (account_id);
CREATE INDEX grants_by_expiry ON grants (expires_at);

-- The refresh tokens that descend from one another: only the current generation is kept.
CREATE TABLE refresh_families (
    id TEXT NOT NULL PRIMARY KEY,
    grant_id TEXT NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    client_id TEXT NOT NULL,
    scope TEXT NOT NULL,
    audience TEXT NOT NULL,
    generation BIGINT NOT NULL,
    rotated_at BIGINT NOT NULL,
    dead BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    idle_expires_at BIGINT NOT NULL
);
CREATE INDEX refresh_families_by_grant ON refresh_families (grant_id);
CREATE INDEX refresh_families_by_expiry ON refresh_families (expires_at);
CREATE INDEX refresh_families_by_idle_expiry ON refresh_families (idle_expires_at);

-- What may be used once: assertions, codes, exchanged tokens.
CREATE TABLE used (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    until BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX used_by_expiry ON used (until);
