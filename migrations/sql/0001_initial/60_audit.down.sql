DROP FUNCTION record_audit_event(uuid, text, text, text, text);
DROP FUNCTION audit_digest(bytea, uuid, bigint, timestamptz, text, text, text, text);
DROP TABLE audit_events;
