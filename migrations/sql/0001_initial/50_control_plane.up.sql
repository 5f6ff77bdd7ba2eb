-- The few acts that have no tenant yet or span tenants. Each is one function that runs as memsidecar_control, a role
-- nobody can log in as and that sees tenants, tokens and jobs but nothing that was said.

-- The credential behind a secret, whether it still works or not.
CREATE FUNCTION find_token(wanted_secret_sha256 bytea)
    RETURNS TABLE (id uuid, tenant_id uuid, tenant_language text, max_turns bigint, max_document_bytes bigint,
                   calls_per_second integer, name text, rights text[], agent_ids uuid[], created_at timestamptz,
                   expires_at timestamptz, revoked_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
    SELECT token.id, token.tenant_id, tenant.language, tenant.max_turns, tenant.max_document_bytes,
           tenant.calls_per_second, token.name, token.rights, token.agent_ids, token.created_at, token.expires_at,
           token.revoked_at
    FROM api_tokens AS token
    LEFT JOIN tenants AS tenant ON tenant.id = token.tenant_id
    WHERE token.secret_sha256 = wanted_secret_sha256
    $$;

CREATE FUNCTION create_tenant(new_id uuid, new_name text, new_language text) RETURNS SETOF tenants
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
    INSERT INTO tenants (id, name, language) VALUES (new_id, new_name, new_language) RETURNING *
    $$;

CREATE FUNCTION find_tenant(wanted_id uuid, wanted_name text) RETURNS SETOF tenants
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
    SELECT * FROM tenants WHERE id = wanted_id OR (wanted_id IS NULL AND name = wanted_name)
    $$;

CREATE FUNCTION list_tenants(after_name text, row_limit integer) RETURNS SETOF tenants
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
    SELECT * FROM tenants WHERE name > after_name ORDER BY name LIMIT row_limit
    $$;

CREATE FUNCTION update_tenant(changed tenants) RETURNS SETOF tenants
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
    UPDATE tenants
    SET language = changed.language, retain_turns = changed.retain_turns,
        retain_documents = changed.retain_documents, retain_jobs = changed.retain_jobs,
        retain_memory_revisions = changed.retain_memory_revisions, max_turns = changed.max_turns,
        max_document_bytes = changed.max_document_bytes, calls_per_second = changed.calls_per_second,
        memory_overflow = changed.memory_overflow
    WHERE id = changed.id
    RETURNING *
    $$;

-- wanted_tenant NULL means the operator tokens.
CREATE FUNCTION create_token(new_id uuid, new_tenant uuid, new_name text, new_secret_sha256 bytea, new_rights text[],
                             new_agent_ids uuid[], new_expires_at timestamptz) RETURNS SETOF api_tokens
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
    INSERT INTO api_tokens (id, tenant_id, name, secret_sha256, rights, agent_ids, expires_at)
    VALUES (new_id, new_tenant, new_name, new_secret_sha256, new_rights, new_agent_ids, new_expires_at)
    RETURNING *
    $$;

CREATE FUNCTION list_tokens(wanted_tenant uuid, before_created_at timestamptz, before_id uuid, row_limit integer)
    RETURNS SETOF api_tokens
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
    SELECT * FROM api_tokens
    WHERE tenant_id IS NOT DISTINCT FROM wanted_tenant
      AND (before_id IS NULL OR (created_at, id) < (before_created_at, before_id))
    ORDER BY created_at DESC, id DESC
    LIMIT row_limit
    $$;

-- Ends a token at the given moment, never later than it would have ended anyway. any_tenant is for operators.
CREATE FUNCTION end_token(wanted_id uuid, wanted_tenant uuid, any_tenant boolean, new_revoked_at timestamptz)
    RETURNS SETOF api_tokens
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
    UPDATE api_tokens SET revoked_at = LEAST(revoked_at, new_revoked_at)
    WHERE id = wanted_id AND (any_tenant OR tenant_id IS NOT DISTINCT FROM wanted_tenant)
    RETURNING *
    $$;

-- Takes a job nobody works on, for lease_seconds; a job whose lease ran out counts as such. The tenant served longest
-- ago comes first, and of its jobs the one served longest ago: a thousand jobs of one tenant do not hold up the one job
-- of another, nor does one large job hold up the small ones after it.
CREATE FUNCTION claim_ingestion_job(worker uuid, lease_seconds integer)
    RETURNS TABLE (tenant_id uuid, job_id uuid)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
    UPDATE ingestion_jobs AS job
    SET status = 'processing', lease_owner = worker,
        lease_expires_at = clock_timestamp() + make_interval(secs => lease_seconds),
        claimed_at = clock_timestamp(),
        started_at = COALESCE(job.started_at, clock_timestamp())
    FROM (
        SELECT open.tenant_id, open.id
        FROM ingestion_jobs AS open
        WHERE open.status IN ('queued', 'processing')
          AND NOT open.receiving
          AND (open.lease_expires_at IS NULL OR open.lease_expires_at < clock_timestamp())
        ORDER BY
            (SELECT max(served.claimed_at) FROM ingestion_jobs AS served WHERE served.tenant_id = open.tenant_id)
                NULLS FIRST,
            open.claimed_at NULLS FIRST, open.created_at, open.id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS next
    WHERE job.tenant_id = next.tenant_id AND job.id = next.id
    RETURNING job.tenant_id, job.id
    $$;

-- Forgets jobs whose documents stopped arriving before all of them were there.
CREATE FUNCTION drop_abandoned_ingestion_jobs() RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
    DELETE FROM ingestion_jobs WHERE receiving AND lease_expires_at < clock_timestamp()
    $$;

-- How much there is to take in over all tenants: jobs that are not done, and the age of the oldest in seconds.
CREATE FUNCTION ingestion_backlog() RETURNS TABLE (open_jobs bigint, oldest_seconds double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
    SELECT count(*), COALESCE(EXTRACT(epoch FROM clock_timestamp() - min(created_at)), 0)::double precision
    FROM ingestion_jobs
    WHERE status IN ('queued', 'processing') AND NOT receiving
    $$;
