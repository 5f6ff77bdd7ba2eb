-- What is known about a user. The nil UUID as agent_id is the memory that all agents of the tenant share.
CREATE TABLE user_memories (
    tenant_id  uuid        NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    user_id    text        NOT NULL CHECK (char_length(user_id) BETWEEN 1 AND 256),
    agent_id   uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    memory     text        NOT NULL,
    metadata   jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    revision   bigint      NOT NULL CHECK (revision >= 1),
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text        NOT NULL,
    PRIMARY KEY (tenant_id, user_id, agent_id)
);
ALTER TABLE user_memories ALTER COLUMN memory SET STATISTICS 0, ALTER COLUMN metadata SET STATISTICS 0;
ALTER TABLE user_memories ENABLE ROW LEVEL SECURITY;
ALTER TABLE user_memories FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON user_memories
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);

-- Every revision as it was written, the current one included. Append-only.
CREATE TABLE user_memory_revisions (
    tenant_id  uuid        NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    user_id    text        NOT NULL,
    agent_id   uuid        NOT NULL,
    revision   bigint      NOT NULL CHECK (revision >= 1),
    memory     text        NOT NULL,
    metadata   jsonb       NOT NULL,
    request_id text        CHECK (char_length(request_id) BETWEEN 1 AND 256),
    -- SHA-256 of the request, so that a request id used for two different writes is noticed.
    request_sha256 bytea   CHECK (octet_length(request_sha256) = 32),
    updated_at timestamptz NOT NULL,
    updated_by text        NOT NULL,
    PRIMARY KEY (tenant_id, user_id, agent_id, revision),
    FOREIGN KEY (tenant_id, user_id, agent_id) REFERENCES user_memories (tenant_id, user_id, agent_id)
        ON DELETE CASCADE,
    CHECK ((request_id IS NULL) = (request_sha256 IS NULL))
);
ALTER TABLE user_memory_revisions ALTER COLUMN memory SET STATISTICS 0, ALTER COLUMN metadata SET STATISTICS 0;
CREATE UNIQUE INDEX user_memory_revisions_request
    ON user_memory_revisions (tenant_id, user_id, agent_id, request_id) WHERE request_id IS NOT NULL;
ALTER TABLE user_memory_revisions ENABLE ROW LEVEL SECURITY;
ALTER TABLE user_memory_revisions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON user_memory_revisions
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON user_memory_revisions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Paragraphs that outgrew a memory, long ones in several passages; ids are in the order they were moved. Searchable.
CREATE TABLE user_memory_archive (
    tenant_id   uuid        NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id          uuid        NOT NULL,
    user_id     text        NOT NULL,
    agent_id    uuid        NOT NULL,
    revision    bigint      NOT NULL,
    passage     text        NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now(),
    model_id    smallint    NOT NULL REFERENCES embedding_models (id),
    embedding   vector(384) NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id, agent_id) REFERENCES user_memories (tenant_id, user_id, agent_id)
        ON DELETE CASCADE
);
ALTER TABLE user_memory_archive ALTER COLUMN passage SET STATISTICS 0, ALTER COLUMN embedding SET STATISTICS 0;
CREATE INDEX user_memory_archive_user ON user_memory_archive (tenant_id, user_id, agent_id);
ALTER TABLE user_memory_archive ENABLE ROW LEVEL SECURITY;
ALTER TABLE user_memory_archive FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON user_memory_archive
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON user_memory_archive
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
