DROP INDEX audit_records_not_in_syslog;
DROP INDEX audit_records_not_in_file;
ALTER TABLE audit_records DROP COLUMN in_syslog;
ALTER TABLE audit_records DROP COLUMN in_file;
