-- Who a row belongs to, and the rule by which every other row is kept apart.

-- The tenant of the running transaction, or NULL when none is set: a custom setting reads '' after the transaction
-- that set it, so '' must mean "none" as well.
CREATE FUNCTION current_tenant() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN NULLIF(current_setting('app.current_tenant', true), '')::uuid;

-- name: unique, so that an operator may speak of it. language: text search configuration of new rows.
CREATE TABLE tenants (
    id                      uuid        PRIMARY KEY,
    name                    text        NOT NULL UNIQUE CHECK (name ~ '^[a-z][a-z0-9-]{0,63}$'),
    language                text        NOT NULL DEFAULT 'english',
    retain_turns            interval    CHECK (retain_turns > interval '0'),
    retain_documents        interval    CHECK (retain_documents > interval '0'),
    retain_jobs             interval    CHECK (retain_jobs > interval '0'),
    retain_memory_revisions interval    CHECK (retain_memory_revisions > interval '0'),
    max_turns               bigint      NOT NULL DEFAULT 0 CHECK (max_turns >= 0),
    max_document_bytes      bigint      NOT NULL DEFAULT 0 CHECK (max_document_bytes >= 0),
    calls_per_second        integer     NOT NULL DEFAULT 0 CHECK (calls_per_second >= 0),
    memory_overflow         text        NOT NULL DEFAULT 'refuse' CHECK (memory_overflow IN ('refuse', 'archive')),
    created_at              timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON tenants
    USING (id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
-- The control plane serves calls that have no tenant yet: finding a token, making and listing tenants.
CREATE POLICY control_plane ON tenants TO memsidecar_control USING (true);

-- tenant_id is NULL for an operator token, which no tenant can see. Only a hash of the secret is stored.
CREATE TABLE api_tokens (
    id            uuid        PRIMARY KEY,
    tenant_id     uuid        REFERENCES tenants (id) ON DELETE CASCADE,
    name          text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 128),
    secret_sha256 bytea       NOT NULL UNIQUE CHECK (octet_length(secret_sha256) = 32),
    rights        text[]      NOT NULL CHECK (rights <@ ARRAY['append', 'recall', 'documents', 'admin', 'operator']),
    agent_ids     uuid[]      NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,
    revoked_at    timestamptz,
    CHECK (('operator' = ANY (rights)) = (tenant_id IS NULL))
);
CREATE INDEX api_tokens_tenant ON api_tokens (tenant_id, created_at DESC, id);
ALTER TABLE api_tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_tokens FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON api_tokens
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
CREATE POLICY control_plane ON api_tokens TO memsidecar_control USING (true);

-- Which model made a vector. Shared by all tenants: it says nothing about any of them.
CREATE TABLE embedding_models (
    id         smallint    GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text        NOT NULL,
    precision  text        NOT NULL,
    sha256     text        NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    dimensions integer     NOT NULL CHECK (dimensions > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (name, precision, sha256)
);

-- Stops every change of an append-only table, whoever asks, the owner and superusers included; the eraser alone may
-- delete, and only by taking on its role. Deletions that its own cascade to other tables run as their owner: the setting
-- "role" still names the eraser then, and only a member of a role can set it.
CREATE FUNCTION refuse_change() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND 'memsidecar_eraser' IN (current_user, current_setting('role')) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Append a turn that edits or deletes, or erase through the eraser role.';
END
$$;
