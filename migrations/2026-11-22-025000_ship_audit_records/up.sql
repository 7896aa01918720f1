-- Which sinks a record has reached; NULL for not yet. What an older program writes is NULL too, and so is shipped.
ALTER TABLE audit_records ADD COLUMN in_file BOOLEAN;
ALTER TABLE audit_records ADD COLUMN in_syslog BOOLEAN;
CREATE INDEX audit_records_not_in_file ON audit_records (id) WHERE in_file IS NULL;
CREATE INDEX audit_records_not_in_syslog ON audit_records (id) WHERE in_syslog IS NULL;
