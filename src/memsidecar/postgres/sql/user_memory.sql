-- name: memory_to_write
-- Reads what a write builds on: what the tenant wants at the hard limit, the current revision, and whether the request
-- is known. No row when the tenant is gone. $1 tenant, $2 user, $3 agent, $4 request (NULL for none), $5 its digest.
SELECT
    tenant.memory_overflow, memory.memory, memory.metadata, memory.revision, memory.updated_at, memory.updated_by,
    written.revision IS NOT NULL AS repeated, written.request_sha256 = $5::bytea AS same
FROM tenants AS tenant
LEFT JOIN user_memories AS memory
    ON memory.tenant_id = $1 AND memory.user_id = $2 AND memory.agent_id = $3
LEFT JOIN user_memory_revisions AS written
    ON written.tenant_id = $1 AND written.user_id = $2 AND written.agent_id = $3 AND written.request_id = $4
WHERE tenant.id = $1;

-- name: write_memory
-- Writes a revision, keeps it in the history and adds to the archive. $1 tenant, $2 user, $3 agent, $4 revision, $5 text,
-- $6 object, $7 author, $8 request (NULL for none), $9 its digest, $10 model, then the archive: $11 ids, $12 passages,
-- $13 vectors.
WITH written AS (
    INSERT INTO user_memories (tenant_id, user_id, agent_id, memory, metadata, revision, updated_at, updated_by)
    VALUES ($1, $2, $3, $5, $6::jsonb, $4, clock_timestamp(), $7)
    ON CONFLICT (tenant_id, user_id, agent_id) DO UPDATE
    SET memory = EXCLUDED.memory, metadata = EXCLUDED.metadata, revision = EXCLUDED.revision,
        updated_at = EXCLUDED.updated_at, updated_by = EXCLUDED.updated_by
    RETURNING tenant_id, user_id, agent_id, revision, memory, metadata, updated_at, updated_by
),
kept AS (
    INSERT INTO user_memory_revisions (
        tenant_id, user_id, agent_id, revision, memory, metadata, updated_at, updated_by, request_id, request_sha256
    )
    SELECT tenant_id, user_id, agent_id, revision, memory, metadata, updated_at, updated_by, $8, $9::bytea
    FROM written
),
archived AS (
    INSERT INTO user_memory_archive (tenant_id, user_id, agent_id, revision, model_id, id, passage, embedding)
    SELECT $1, $2, $3, $4 - 1, $10::smallint, moved.id, moved.passage, moved.embedding
    FROM unnest($11::uuid[], $12::text[], $13::vector[]) AS moved (id, passage, embedding)
)
SELECT memory, metadata, revision, updated_at, updated_by FROM written;

-- name: read_memory
-- Reads the current revision. $1 tenant, $2 user, $3 agent.
SELECT memory, metadata, revision, updated_at, updated_by
FROM user_memories
WHERE tenant_id = $1 AND user_id = $2 AND agent_id = $3;

-- name: read_revision
-- Reads one revision. $1 tenant, $2 user, $3 agent, $4 revision.
SELECT memory, metadata, revision, updated_at, updated_by
FROM user_memory_revisions
WHERE tenant_id = $1 AND user_id = $2 AND agent_id = $3 AND revision = $4;

-- name: list_revisions
-- Reads revisions, newest first. $1 tenant, $2 user, $3 agent, $4 below which revision (NULL from the newest), $5 how
-- many.
SELECT memory, metadata, revision, updated_at, updated_by
FROM user_memory_revisions
WHERE tenant_id = $1 AND user_id = $2 AND agent_id = $3 AND ($4::bigint IS NULL OR revision < $4)
ORDER BY revision DESC
LIMIT $5;

-- name: search_archive
-- Gives the passages nearest to a vector by cosine distance, exactly. $1 tenant, $2 user, $3 agent, $4 model, $5 vector,
-- $6 how many.
SELECT passage, revision, archived_at, 1 - (embedding <=> $5::vector) AS similarity
FROM user_memory_archive
WHERE tenant_id = $1 AND user_id = $2 AND agent_id = $3 AND model_id = $4
ORDER BY (embedding <=> $5::vector) + 0, id DESC
LIMIT $6;
