-- What each grant rests on: groups, rules, the session at the provider. A grant that rests on none of them has one row of the kind none,
-- so that those without any row are the ones of a program that did not know this table. What a refresh no longer found stays as long as
-- an access token from before can live: until then.
CREATE TABLE grant_causes (
    grant_id TEXT NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    until BIGINT NOT NULL,
    PRIMARY KEY (grant_id, kind, value)
);
CREATE INDEX grant_causes_by_value ON grant_causes (kind, value);
