-- Forgetting: what was asked for, how far it is, and the receipt that stays.

-- A random key per tenant. Receipts and the audit trail name a subject by its HMAC under this key, which goes with the
-- tenant: then nothing can be matched any more.
CREATE TABLE digest_keys (
    tenant_id uuid  PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    key       bytea NOT NULL CHECK (octet_length(key) = 32)
);
ALTER TABLE digest_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE digest_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON digest_keys
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);

-- subject names whom to forget while the work goes on, so that it survives a crash; it is emptied with the last row. The
-- receipt of a tenant's own erasure outlives the tenant. A worker holds an erasure by a lease that it renews.
CREATE TABLE erasures (
    tenant_id        uuid        NOT NULL,
    id               uuid        NOT NULL,
    kind             text        NOT NULL CHECK (kind IN ('user', 'conversation', 'tenant')),
    status           text        NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'completed', 'failed')),
    subject          jsonb,
    subject_digest   text        NOT NULL CHECK (subject_digest ~ '^[0-9a-f]{64}$'),
    request_digest   text        CHECK (request_digest ~ '^[0-9a-f]{64}$'),
    requested_by     text        NOT NULL,
    reason           text        NOT NULL CHECK (char_length(reason) <= 512),
    requested_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    completed_at     timestamptz,
    vacuumed_at      timestamptz,
    erased           jsonb       NOT NULL DEFAULT '{}',
    remaining_rows   bigint      NOT NULL DEFAULT 0,
    error            text        NOT NULL DEFAULT '',
    lease_owner      uuid,
    lease_expires_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CHECK ((status = 'completed') = (subject IS NULL) AND (status = 'completed') = (completed_at IS NOT NULL))
);
CREATE UNIQUE INDEX erasures_request ON erasures (tenant_id, request_digest) WHERE request_digest IS NOT NULL;
CREATE INDEX erasures_open ON erasures (requested_at) WHERE status = 'running';
CREATE INDEX erasures_unvacuumed ON erasures (completed_at) WHERE vacuumed_at IS NULL;
ALTER TABLE erasures ENABLE ROW LEVEL SECURITY;
ALTER TABLE erasures FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON erasures
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
CREATE POLICY control_plane ON erasures TO memsidecar_control USING (true);

-- Takes the erasure that waits longest and that nobody works on, for lease_seconds.
CREATE FUNCTION claim_erasure(worker uuid, lease_seconds integer)
    RETURNS TABLE (tenant_id uuid, erasure_id uuid)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
    UPDATE erasures AS erasure
    SET lease_owner = worker, lease_expires_at = clock_timestamp() + make_interval(secs => lease_seconds)
    FROM (
        SELECT open.tenant_id, open.id
        FROM erasures AS open
        WHERE open.status = 'running'
          AND (open.lease_expires_at IS NULL OR open.lease_expires_at < clock_timestamp())
        ORDER BY open.requested_at
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS next
    WHERE erasure.tenant_id = next.tenant_id AND erasure.id = next.id
    RETURNING erasure.tenant_id, erasure.id
    $$;

-- An erasure without its subject, by an operator of whatever tenant: the tenant may be gone.
CREATE FUNCTION find_erasure(wanted_id uuid, wanted_tenant uuid, any_tenant boolean)
    RETURNS TABLE (id uuid, tenant_id uuid, kind text, status text, subject_digest text, requested_by text, reason text,
                   requested_at timestamptz, completed_at timestamptz, vacuumed_at timestamptz, erased jsonb,
                   remaining_rows bigint, error text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
    SELECT erasure.id, erasure.tenant_id, erasure.kind, erasure.status, erasure.subject_digest, erasure.requested_by,
           erasure.reason, erasure.requested_at, erasure.completed_at, erasure.vacuumed_at, erasure.erased,
           erasure.remaining_rows, erasure.error
    FROM erasures AS erasure
    WHERE erasure.id = wanted_id AND (any_tenant OR erasure.tenant_id = wanted_tenant)
    $$;

-- The tables that finished erasures took rows from and that were not vacuumed since.
CREATE FUNCTION unvacuumed_tables() RETURNS SETOF text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
    SELECT DISTINCT touched.name
    FROM erasures AS erasure
    CROSS JOIN LATERAL jsonb_object_keys(erasure.erased) AS touched (name)
    WHERE erasure.status = 'completed' AND erasure.vacuumed_at IS NULL
    $$;

-- Records that a vacuum which began at a moment is done: it covers every erasure that was finished by then.
CREATE FUNCTION mark_erasures_vacuumed(vacuum_began_at timestamptz) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
    UPDATE erasures SET vacuumed_at = clock_timestamp()
    WHERE status = 'completed' AND vacuumed_at IS NULL AND completed_at <= vacuum_began_at
    $$;

-- Statistics hold samples of what they are about, and would outlive it: none about what documents say.
ALTER TABLE documents
    ALTER COLUMN content SET STATISTICS 0, ALTER COLUMN title SET STATISTICS 0, ALTER COLUMN metadata SET STATISTICS 0;
ALTER TABLE document_chunks
    ALTER COLUMN content SET STATISTICS 0, ALTER COLUMN title SET STATISTICS 0, ALTER COLUMN metadata SET STATISTICS 0,
    ALTER COLUMN heading_path SET STATISTICS 0, ALTER COLUMN embedding SET STATISTICS 0;
ALTER TABLE ingestion_job_documents
    ALTER COLUMN raw SET STATISTICS 0, ALTER COLUMN title SET STATISTICS 0, ALTER COLUMN metadata SET STATISTICS 0;
