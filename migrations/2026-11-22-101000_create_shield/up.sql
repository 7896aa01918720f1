-- The tries for one person at one source, or for a login that nobody has. subject: a keyed hash of both.
CREATE TABLE shield_tries (
    subject TEXT NOT NULL PRIMARY KEY,
    failed BIGINT NOT NULL,
    in_flight BIGINT NOT NULL,
    guesses BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    number BIGINT NOT NULL,
    last_try BIGINT NOT NULL,
    last_guess BIGINT NOT NULL,
    until BIGINT NOT NULL
);
CREATE INDEX shield_tries_until ON shield_tries (until);

-- What is remembered for a while, as keyed hashes: networks that a person signed in from, and wrong passwords.
CREATE TABLE shield_marks (
    mark TEXT NOT NULL PRIMARY KEY,
    until BIGINT NOT NULL
);
CREATE INDEX shield_marks_until ON shield_marks (until);
