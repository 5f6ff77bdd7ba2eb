-- name: own_turns
-- Finds turns in a user's memory in the order they were said, each by its row with the lowest id. $1 tenant, $2 user,
-- $3 and $4 time and id of the last one found before (NULL at the start), $5 how many.
SELECT turn.id, turn.occurred_at
FROM conversation_embeddings AS turn
WHERE turn.tenant_id = $1 AND turn.user_id = $2
    AND ($3::timestamptz IS NULL OR (turn.occurred_at, turn.id) > ($3, $4::uuid))
    AND NOT EXISTS (
        SELECT FROM conversation_embeddings AS original
        WHERE original.tenant_id = $1 AND original.agent_id = turn.agent_id AND original.user_id = turn.user_id
            AND original.source = turn.target_source AND original.event_id = turn.target_event_id
            AND original.id < turn.id
    )
    AND NOT EXISTS (
        SELECT FROM conversation_embeddings AS change
        WHERE change.tenant_id = $1 AND change.agent_id = turn.agent_id AND change.user_id = turn.user_id
            AND change.target_source = COALESCE(turn.target_source, turn.source)
            AND change.target_event_id = COALESCE(turn.target_event_id, turn.event_id)
            AND change.id < turn.id
    )
ORDER BY turn.occurred_at, turn.id
LIMIT $5;

-- name: spoken_turns
-- Finds turns that a user spoke in the memory of others, each by the user's row with the lowest id. $1 tenant, $2 user,
-- $3 id of the last one found before (NULL at the start), $4 how many.
SELECT turn.id
FROM conversation_embeddings AS turn
WHERE turn.tenant_id = $1 AND turn.speaker_id = $2 AND turn.speaker_id <> '' AND turn.user_id <> turn.speaker_id
    AND ($3::uuid IS NULL OR turn.id > $3)
    AND NOT EXISTS (
        SELECT FROM conversation_embeddings AS original
        WHERE original.tenant_id = $1 AND original.agent_id = turn.agent_id AND original.user_id = turn.user_id
            AND original.source = turn.target_source AND original.event_id = turn.target_event_id
            AND original.speaker_id = $2 AND original.id < turn.id
    )
    AND NOT EXISTS (
        SELECT FROM conversation_embeddings AS change
        WHERE change.tenant_id = $1 AND change.agent_id = turn.agent_id AND change.user_id = turn.user_id
            AND change.target_source = COALESCE(turn.target_source, turn.source)
            AND change.target_event_id = COALESCE(turn.target_event_id, turn.event_id)
            AND change.speaker_id = $2 AND change.id < turn.id
    )
ORDER BY turn.id
LIMIT $4;

-- name: turn_lines
-- Writes a line for each turn, with all its rows. $1 tenant, $2 a row of each turn, $3 whether with vectors.
WITH wanted AS (
    SELECT
        turn.id, given.position, turn.agent_id, turn.user_id, COALESCE(turn.target_source, turn.source) AS source,
        COALESCE(turn.target_event_id, turn.event_id) AS event_id
    FROM unnest($2::uuid[]) WITH ORDINALITY AS given (id, position)
    JOIN conversation_embeddings AS turn ON turn.tenant_id = $1 AND turn.id = given.id
),
found AS (
    SELECT wanted.position, wanted.id FROM wanted
    UNION
    SELECT wanted.position, turn.id
    FROM wanted
    JOIN conversation_embeddings AS turn
        ON turn.tenant_id = $1 AND turn.agent_id = wanted.agent_id AND turn.user_id = wanted.user_id
        AND turn.source = wanted.source AND turn.event_id = wanted.event_id
    UNION
    SELECT wanted.position, turn.id
    FROM wanted
    JOIN conversation_embeddings AS turn
        ON turn.tenant_id = $1 AND turn.agent_id = wanted.agent_id AND turn.user_id = wanted.user_id
        AND turn.target_source = wanted.source AND turn.target_event_id = wanted.event_id
)
SELECT
    jsonb_build_object(
        'kind', 'turn',
        'rows', jsonb_agg(
            jsonb_build_object(
                'id', turn.id, 'turn_id', turn.turn_id, 'agent_id', turn.agent_id, 'user_id', turn.user_id,
                'conversation_id', turn.conversation_id, 'role', turn.role, 'speaker_id', turn.speaker_id,
                'speaker_name', turn.speaker_name, 'action', turn.action, 'source', turn.source,
                'event_id', turn.event_id, 'target_source', turn.target_source,
                'target_event_id', turn.target_event_id, 'content', turn.content, 'metadata', turn.metadata,
                'language', turn.language, 'token_count', turn.token_count, 'truncated', turn.truncated,
                'occurred_at', turn.occurred_at, 'created_at', turn.created_at, 'changed_at', turn.changed_at,
                'placed_from', turn.placed_from, 'superseded_at', superseded.superseded_at,
                'model', model.sha256,
                'vector', CASE WHEN $3::boolean AND turn.action <> 'deleted' THEN to_jsonb(turn.embedding::real[]) END
            )
            ORDER BY turn.action <> 'said', turn.created_at, turn.id
        )
    )::text AS line
FROM found
JOIN conversation_embeddings AS turn ON turn.tenant_id = $1 AND turn.id = found.id
JOIN embedding_models AS model ON model.id = turn.model_id
LEFT JOIN superseded_turns AS superseded ON superseded.tenant_id = $1 AND superseded.id = turn.id
GROUP BY found.position
ORDER BY found.position;

-- name: revision_lines
-- Writes a line for each revision of a user's memories, memory by memory, oldest first. $1 tenant, $2 user, $3 and $4
-- agent and revision of the last one written (NULL at the start), $5 how many.
SELECT
    agent_id, revision,
    jsonb_build_object(
        'kind', 'memory_revision', 'user_id', user_id, 'agent_id', agent_id, 'revision', revision, 'memory', memory,
        'metadata', metadata, 'updated_at', updated_at, 'updated_by', updated_by
    )::text AS line
FROM user_memory_revisions
WHERE tenant_id = $1 AND user_id = $2
    AND ($3::uuid IS NULL OR (agent_id, revision) > ($3, $4::bigint))
ORDER BY agent_id, revision
LIMIT $5;

-- name: passage_lines
-- Writes a line for each archived passage of a user's memories. $1 tenant, $2 user, $3 id of the last one written (NULL
-- at the start), $4 how many, $5 whether with vectors.
SELECT
    archive.id,
    jsonb_build_object(
        'kind', 'archived_passage', 'id', archive.id, 'user_id', archive.user_id, 'agent_id', archive.agent_id,
        'revision', archive.revision, 'passage', archive.passage, 'archived_at', archive.archived_at,
        'model', model.sha256, 'vector', CASE WHEN $5::boolean THEN to_jsonb(archive.embedding::real[]) END
    )::text AS line
FROM user_memory_archive AS archive
JOIN embedding_models AS model ON model.id = archive.model_id
WHERE archive.tenant_id = $1 AND archive.user_id = $2 AND ($3::uuid IS NULL OR archive.id > $3)
ORDER BY archive.id
LIMIT $4;

-- name: document_line
-- Writes the line of a user's next document. $1 tenant, $2 user, $3 id of the last one written (NULL at the start).
SELECT
    id,
    jsonb_build_object(
        'kind', 'document', 'id', id, 'document_key', document_key, 'user_id', user_id, 'is_global', is_global,
        'document_type', document_type, 'title', title, 'content', content,
        'content_sha256', encode(content_sha256, 'hex'), 'recipe_sha256', encode(recipe_sha256, 'hex'),
        'metadata', metadata, 'language', language, 'chunk_count', chunk_count, 'job_id', job_id,
        'submitted_at', submitted_at, 'occurred_at', occurred_at, 'created_at', created_at, 'updated_at', updated_at
    )::text AS line
FROM documents
WHERE tenant_id = $1 AND user_id = $2 AND ($3::uuid IS NULL OR id > $3)
ORDER BY id
LIMIT 1;

-- name: chunk_lines
-- Writes a line for each passage of a document, in order. $1 tenant, $2 document, $3 index of the last one written (-1 at
-- the start), $4 how many, $5 whether with vectors.
SELECT
    chunk.chunk_index,
    jsonb_build_object(
        'kind', 'chunk', 'id', chunk.id, 'document_id', chunk.document_id, 'chunk_index', chunk.chunk_index,
        'start_char', chunk.start_char, 'end_char', chunk.end_char, 'heading_path', to_jsonb(chunk.heading_path),
        'page_number', chunk.page_number, 'token_count', chunk.token_count, 'model', model.sha256,
        'vector', CASE WHEN $5::boolean THEN to_jsonb(chunk.embedding::real[]) END
    )::text AS line
FROM document_chunks AS chunk
JOIN embedding_models AS model ON model.id = chunk.model_id
WHERE chunk.tenant_id = $1 AND chunk.document_id = $2 AND chunk.chunk_index > $3
ORDER BY chunk.chunk_index
LIMIT $4;

-- name: ingestion_lines
-- Writes a line for each of a user's documents that a job holds: for information, an import leaves them out. $1 tenant,
-- $2 user, $3 and $4 job and position of the last one written (NULL at the start), $5 how many.
SELECT
    held.job_id, held.position,
    jsonb_build_object(
        'kind', 'ingestion', 'job_id', held.job_id, 'position', held.position, 'document_key', held.document_key,
        'user_id', held.user_id, 'is_global', held.is_global, 'title', held.title, 'metadata', held.metadata,
        'status', held.status, 'document_id', held.document_id, 'raw_base64', encode(held.raw, 'base64'),
        'created_at', job.created_at, 'requested_by', job.requested_by
    )::text AS line
FROM ingestion_job_documents AS held
JOIN ingestion_jobs AS job ON job.tenant_id = $1 AND job.id = held.job_id
WHERE held.tenant_id = $1 AND held.user_id = $2
    AND ($3::uuid IS NULL OR (held.job_id, held.position) > ($3, $4::integer))
ORDER BY held.job_id, held.position
LIMIT $5;

-- name: import_turns
-- Takes in turns, each with all its rows or, when any row or event of it is there already, not at all; the caller holds
-- the exclusive lock on the memories they belong to. Gives the positions of turns that are there already.
-- $1 tenant, $2 model, $3 rows as a JSON array of objects with the columns and "position", $4 their vectors.
WITH given AS (
    SELECT given.*, vector.embedding
    FROM jsonb_to_recordset($3::jsonb) AS given (
        position integer, id uuid, turn_id uuid, agent_id uuid, user_id text, conversation_id text, role text,
        speaker_id text, speaker_name text, action text, source text, event_id text, target_source text,
        target_event_id text, content text, metadata jsonb, language text, token_count integer, truncated boolean,
        occurred_at timestamptz, created_at timestamptz, changed_at timestamptz, placed_from uuid,
        superseded_at timestamptz, vector_position integer
    )
    JOIN unnest($4::vector[]) WITH ORDINALITY AS vector (embedding, position)
        ON vector.position = given.vector_position
),
known AS (
    SELECT given.position
    FROM given
    JOIN conversation_embeddings AS turn ON turn.tenant_id = $1 AND turn.id = given.id
    UNION
    SELECT given.position
    FROM given
    JOIN conversation_embeddings AS turn
        ON turn.tenant_id = $1 AND turn.agent_id = given.agent_id AND turn.user_id = given.user_id
        AND turn.source = given.source AND turn.event_id = given.event_id
    UNION
    SELECT given.position
    FROM given
    JOIN conversation_embeddings AS turn
        ON turn.tenant_id = $1 AND turn.agent_id = given.agent_id AND turn.user_id = given.user_id
        AND turn.source = given.target_source AND turn.event_id = given.target_event_id
    UNION
    SELECT given.position
    FROM given
    JOIN conversation_embeddings AS turn
        ON turn.tenant_id = $1 AND turn.agent_id = given.agent_id AND turn.user_id = given.user_id
        AND turn.target_source = COALESCE(given.target_source, given.source)
        AND turn.target_event_id = COALESCE(given.target_event_id, given.event_id)
),
fresh AS (
    SELECT * FROM given WHERE given.position NOT IN (SELECT known.position FROM known)
),
inserted AS (
    INSERT INTO conversation_embeddings (
        tenant_id, model_id, id, turn_id, agent_id, user_id, conversation_id, role, speaker_id, speaker_name, action,
        source, event_id, target_source, target_event_id, content, metadata, language, token_count, truncated,
        occurred_at, created_at, changed_at, placed_from, embedding
    )
    SELECT
        $1::uuid, $2::smallint, id, turn_id, agent_id, user_id, conversation_id, role, speaker_id, speaker_name, action,
        source, event_id, target_source, target_event_id, content, metadata, language, token_count, truncated,
        occurred_at, created_at, changed_at, placed_from, embedding
    FROM fresh
    ORDER BY occurred_at, id
),
superseded AS (
    INSERT INTO superseded_turns (tenant_id, id, agent_id, user_id, superseded_at)
    SELECT $1::uuid, id, agent_id, user_id, superseded_at FROM fresh WHERE superseded_at IS NOT NULL
),
speakers AS (
    INSERT INTO turn_speakers (tenant_id, user_id, agent_id, role, speaker_name)
    SELECT DISTINCT $1::uuid, user_id, agent_id, role, speaker_name FROM fresh
    ORDER BY user_id, agent_id, role, speaker_name
    ON CONFLICT DO NOTHING
)
SELECT known.position FROM known;

-- name: stored_revision
-- Reads the current revision of a memory and, if it is stored, the one that is to be taken in. $1 tenant, $2 user,
-- $3 agent, $4 revision, $5 its text, $6 its object. No row when there is no memory.
SELECT
    memory.revision AS current_revision,
    (
        SELECT kept.memory = $5 AND kept.metadata = $6::jsonb
        FROM user_memory_revisions AS kept
        WHERE kept.tenant_id = $1 AND kept.user_id = $2 AND kept.agent_id = $3 AND kept.revision = $4
    ) AS same
FROM user_memories AS memory
WHERE memory.tenant_id = $1 AND memory.user_id = $2 AND memory.agent_id = $3;

-- name: import_revision
-- Takes in a revision and makes it the current one. $1 tenant, $2 user, $3 agent, $4 revision, $5 text, $6 object,
-- $7 when, $8 by whom.
WITH written AS (
    INSERT INTO user_memories (tenant_id, user_id, agent_id, revision, memory, metadata, updated_at, updated_by)
    VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8)
    ON CONFLICT (tenant_id, user_id, agent_id) DO UPDATE
    SET revision = EXCLUDED.revision, memory = EXCLUDED.memory, metadata = EXCLUDED.metadata,
        updated_at = EXCLUDED.updated_at, updated_by = EXCLUDED.updated_by
)
INSERT INTO user_memory_revisions (tenant_id, user_id, agent_id, revision, memory, metadata, updated_at, updated_by)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8);

-- name: import_passage
-- Takes in an archived passage unless it is there; gives its id when it was not. $1 tenant, $2 user, $3 agent, $4 id,
-- $5 revision, $6 text, $7 when, $8 model, $9 vector.
INSERT INTO user_memory_archive (
    tenant_id, user_id, agent_id, id, revision, passage, archived_at, model_id, embedding
)
SELECT $1, $2, $3, $4, $5, $6, $7, $8::smallint, $9::vector
FROM user_memories AS memory
WHERE memory.tenant_id = $1 AND memory.user_id = $2 AND memory.agent_id = $3
ON CONFLICT (tenant_id, id) DO NOTHING
RETURNING id;

-- name: import_document
-- Takes in a document unless one of its id or of its owner and key is there; gives its id when there was none.
-- $1 tenant, $2 the document as a JSON object with its columns.
INSERT INTO documents (
    tenant_id, id, document_key, user_id, is_global, document_type, title, content, content_sha256, recipe_sha256,
    metadata, language, chunk_count, job_id, submitted_at, occurred_at, created_at, updated_at
)
SELECT
    $1::uuid, id, document_key, user_id, is_global, document_type, title, content, decode(content_sha256, 'hex'),
    decode(recipe_sha256, 'hex'), metadata, language, chunk_count, job_id, submitted_at, occurred_at, created_at,
    updated_at
FROM jsonb_to_record($2::jsonb) AS given (
    id uuid, document_key text, user_id text, is_global boolean, document_type text, title text, content text,
    content_sha256 text, recipe_sha256 text, metadata jsonb, language text, chunk_count integer, job_id uuid,
    submitted_at timestamptz, occurred_at timestamptz, created_at timestamptz, updated_at timestamptz
)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: import_chunks
-- Takes in passages of a document that was just taken in. $1 tenant, $2 document, $3 model, $4 passages as a JSON array
-- of objects with their columns, $5 their vectors.
INSERT INTO document_chunks (
    tenant_id, document_id, model_id, id, chunk_index, user_id, is_global, document_type, title, content, start_char,
    end_char, heading_path, page_number, metadata, language, token_count, occurred_at, embedding
)
SELECT
    $1::uuid, document.id, $3::smallint, given.id, given.chunk_index, document.user_id, document.is_global,
    document.document_type, document.title, given.content, given.start_char, given.end_char,
    ARRAY(SELECT jsonb_array_elements_text(given.heading_path)), given.page_number, document.metadata, document.language,
    given.token_count, document.occurred_at, vector.embedding
FROM documents AS document
CROSS JOIN jsonb_to_recordset($4::jsonb) AS given (
    id uuid, chunk_index integer, content text, start_char integer, end_char integer, heading_path jsonb,
    page_number integer, token_count integer, vector_position integer
)
JOIN unnest($5::vector[]) WITH ORDINALITY AS vector (embedding, position) ON vector.position = given.vector_position
WHERE document.tenant_id = $1 AND document.id = $2;
