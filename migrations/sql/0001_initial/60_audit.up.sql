-- The trail of administrative acts: one per tenant, and one of the deployment itself under the nil UUID. Append-only,
-- written through record_audit_event alone, each event bound to the one before it by its digest. Holds no content and no
-- plain user id. A trail outlives everything in it but its tenant.
CREATE TABLE audit_events (
    tenant_id   uuid        NOT NULL,
    sequence    bigint      NOT NULL CHECK (sequence >= 1),
    occurred_at timestamptz NOT NULL,
    actor       text        NOT NULL,
    action      text        NOT NULL,
    subject     text        NOT NULL,
    details     text        NOT NULL,
    digest      bytea       NOT NULL CHECK (octet_length(digest) = 32),
    PRIMARY KEY (tenant_id, sequence)
);
ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_events FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON audit_events
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
CREATE POLICY control_plane ON audit_events TO memsidecar_control USING (true);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What an audit digest is made of: each field as text in UTF-8 behind its length in bytes (four bytes, big-endian).
CREATE FUNCTION audit_digest(previous bytea, trail uuid, event_sequence bigint, event_occurred_at timestamptz,
                             event_actor text, event_action text, event_subject text, event_details text)
    RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    SELECT sha256(string_agg(int4send(octet_length(field.bytes)) || field.bytes, ''::bytea ORDER BY field.position))
    FROM (
        SELECT part.position, convert_to(part.value, 'UTF8') AS bytes
        FROM unnest(ARRAY[
            encode(previous, 'hex'), trail::text, event_sequence::text,
            to_char(event_occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            event_actor, event_action, event_subject, event_details
        ]) WITH ORDINALITY AS part (value, position)
    ) AS field
    $$;

-- Adds an event to a trail, in the transaction of the act itself. Events of one trail come one after the other.
CREATE FUNCTION record_audit_event(trail uuid, new_actor text, new_action text, new_subject text, new_details text)
    RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
DECLARE
    last_sequence bigint;
    last_digest   bytea;
    moment        timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit ' || trail, 0));
    SELECT sequence, digest INTO last_sequence, last_digest
    FROM audit_events WHERE tenant_id = trail ORDER BY sequence DESC LIMIT 1;
    last_sequence := COALESCE(last_sequence, 0);
    last_digest := COALESCE(last_digest, ''::bytea);
    moment := clock_timestamp();
    INSERT INTO audit_events (tenant_id, sequence, occurred_at, actor, action, subject, details, digest)
    VALUES (
        trail, last_sequence + 1, moment, new_actor, new_action, new_subject, new_details,
        audit_digest(
            last_digest, trail, last_sequence + 1, moment, new_actor, new_action, new_subject, new_details
        )
    );
END
$$;
