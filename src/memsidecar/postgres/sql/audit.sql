-- name: record_event
-- Adds an event to a trail. $1 trail, $2 actor, $3 action, $4 subject, $5 details as JSON.
SELECT record_audit_event($1, $2, $3, $4, $5);

-- name: list_events
-- Reads events, newest first. $1 trail, $2 below which sequence (NULL from the newest), $3 how many.
SELECT sequence, occurred_at, actor, action, subject, details, digest
FROM audit_events
WHERE tenant_id = $1 AND ($2::bigint IS NULL OR sequence < $2)
ORDER BY sequence DESC
LIMIT $3;

-- name: read_events
-- Reads events, oldest first. $1 trail, $2 above which sequence, $3 how many.
SELECT sequence, occurred_at, actor, action, subject, details, digest
FROM audit_events
WHERE tenant_id = $1 AND sequence > $2
ORDER BY sequence
LIMIT $3;
