-- name: append_turns
-- Stores rows and answers for each of them, in one statement. A row whose event is stored already is left out of the
-- insert and answered with what is stored; "same" says whether the content was the same. A row that another
-- transaction is storing at this very moment gets no answer here: the caller runs find_events in a new statement,
-- which then sees it.
-- $1 tenant, $2 model, $3 language, then one array per column.
WITH given AS (
    SELECT *
    FROM unnest(
        $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
        $13::text[], $14::text[], $15::text[], $16::text[], $17::jsonb[], $18::timestamptz[], $19::integer[],
        $20::boolean[], $21::vector[]
    ) WITH ORDINALITY AS given (
        id, agent_id, user_id, conversation_id, role, speaker_id, speaker_name, action, source, event_id,
        target_source, target_event_id, content, metadata, occurred_at, token_count, truncated, embedding, position
    )
),
inserted AS (
    INSERT INTO conversation_embeddings (
        tenant_id, model_id, language, id, agent_id, user_id, conversation_id, role, speaker_id, speaker_name, action,
        source, event_id, target_source, target_event_id, content, metadata, occurred_at, token_count, truncated,
        embedding
    )
    SELECT
        $1::uuid, $2::smallint, $3::text, id, agent_id, user_id, conversation_id, role, speaker_id, speaker_name,
        action, source, event_id, target_source, target_event_id, content, metadata, occurred_at, token_count,
        truncated, embedding
    FROM given
    ORDER BY agent_id, user_id, source, event_id, position
    ON CONFLICT (tenant_id, agent_id, user_id, source, event_id) WHERE event_id IS NOT NULL DO NOTHING
    RETURNING id, created_at
)
SELECT given.position, inserted.id, inserted.created_at, false AS repeated, true AS same
FROM given
JOIN inserted ON inserted.id = given.id
UNION ALL
SELECT
    given.position, stored.id, stored.created_at, true,
    (stored.conversation_id, stored.role, stored.action, stored.content)
    IS NOT DISTINCT FROM (given.conversation_id, given.role, given.action, given.content)
    AND (stored.target_source, stored.target_event_id)
    IS NOT DISTINCT FROM (given.target_source, given.target_event_id)
FROM given
JOIN conversation_embeddings AS stored
    ON stored.tenant_id = $1 AND stored.agent_id = given.agent_id AND stored.user_id = given.user_id
    AND stored.source = given.source AND stored.event_id = given.event_id
WHERE given.event_id IS NOT NULL;

-- name: find_events
-- Finds what is stored for events, to answer a repetition that append_turns could not see yet.
-- $1 tenant, then one array per column; position is the caller's.
SELECT
    given.position, stored.id, stored.created_at, true AS repeated,
    (stored.conversation_id, stored.role, stored.action, stored.content)
    IS NOT DISTINCT FROM (given.conversation_id, given.role, given.action, given.content)
    AND (stored.target_source, stored.target_event_id)
    IS NOT DISTINCT FROM (given.target_source, given.target_event_id) AS same
FROM unnest(
    $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
    $11::text[], $12::text[]
) AS given (
    position, agent_id, user_id, source, event_id, conversation_id, role, action, content, target_source,
    target_event_id
)
JOIN conversation_embeddings AS stored
    ON stored.tenant_id = $1 AND stored.agent_id = given.agent_id AND stored.user_id = given.user_id
    AND stored.source = given.source AND stored.event_id = given.event_id;

-- name: register_model
-- Makes sure a model is known and gives its number. $1 name, $2 precision, $3 sha256, $4 dimensions.
INSERT INTO embedding_models (name, precision, sha256, dimensions)
VALUES ($1, $2, $3, $4)
ON CONFLICT (name, precision, sha256) DO NOTHING
RETURNING id;

-- name: find_model
-- Gives the number of a known model. $1 name, $2 precision, $3 sha256.
SELECT id FROM embedding_models WHERE name = $1 AND precision = $2 AND sha256 = $3;

-- name: nearest_turns
-- Gives the nearest visible turns of a scope by cosine distance, exactly: "+ 0" keeps the planner off any approximate
-- index. Ties: the latest said first, then by id.
-- $1 tenant, $2 agents ({} all), $3 user (NULL all), $4 conversations ({} all), $5 roles ({} all), $6 from, $7 until,
-- $8 metadata it must contain, $9 speaker ids ({} all), $10 turns to leave out, $11 conversations to leave out,
-- $12 known at, $13 model, $14 vector, $15 how many.
SELECT
    turn.id, turn.agent_id, turn.user_id, turn.conversation_id, turn.role, turn.speaker_id, turn.speaker_name,
    turn.action, turn.source, turn.event_id, turn.target_source, turn.target_event_id, turn.content, turn.metadata,
    turn.occurred_at, turn.created_at, turn.token_count,
    1 - nearest.distance AS similarity
FROM (
    SELECT candidate.id, (candidate.embedding <=> $14::vector) + 0 AS distance
    FROM conversation_embeddings AS candidate
    WHERE candidate.tenant_id = $1
        AND candidate.action <> 'deleted'
        AND candidate.model_id = $13
        AND (cardinality($2::uuid[]) = 0 OR candidate.agent_id = ANY ($2))
        AND ($3::text IS NULL OR candidate.user_id = $3)
        AND (cardinality($4::text[]) = 0 OR candidate.conversation_id = ANY ($4))
        AND (cardinality($5::text[]) = 0 OR candidate.role = ANY ($5))
        AND ($6::timestamptz IS NULL OR candidate.occurred_at >= $6)
        AND ($7::timestamptz IS NULL OR candidate.occurred_at < $7)
        AND ($8::jsonb = '{}' OR candidate.metadata @> $8)
        AND (cardinality($9::text[]) = 0 OR candidate.speaker_id = ANY ($9))
        AND candidate.id <> ALL ($10::uuid[])
        AND candidate.conversation_id <> ALL ($11::text[])
        AND ($12::timestamptz IS NULL OR candidate.created_at <= $12)
        AND candidate.id <> ALL ((SELECT superseded_turns($1, $2, $3, $12))::uuid[])
    ORDER BY distance, candidate.occurred_at DESC, candidate.id
    LIMIT $15
) AS nearest
JOIN conversation_embeddings AS turn ON turn.tenant_id = $1 AND turn.id = nearest.id
ORDER BY nearest.distance, turn.occurred_at DESC, turn.id;

-- name: list_turns_newest_first
-- Reads visible turns, the latest said first. $1 to $12 as in nearest_turns, $13 and $14 time and id of the last turn
-- read before (NULL at the start), $15 how many.
SELECT
    turn.id, turn.agent_id, turn.user_id, turn.conversation_id, turn.role, turn.speaker_id, turn.speaker_name,
    turn.action, turn.source, turn.event_id, turn.target_source, turn.target_event_id, turn.content, turn.metadata,
    turn.occurred_at, turn.created_at, turn.token_count
FROM conversation_embeddings AS turn
WHERE turn.tenant_id = $1
    AND turn.action <> 'deleted'
    AND (cardinality($2::uuid[]) = 0 OR turn.agent_id = ANY ($2))
    AND ($3::text IS NULL OR turn.user_id = $3)
    AND (cardinality($4::text[]) = 0 OR turn.conversation_id = ANY ($4))
    AND (cardinality($5::text[]) = 0 OR turn.role = ANY ($5))
    AND ($6::timestamptz IS NULL OR turn.occurred_at >= $6)
    AND ($7::timestamptz IS NULL OR turn.occurred_at < $7)
    AND ($8::jsonb = '{}' OR turn.metadata @> $8)
    AND (cardinality($9::text[]) = 0 OR turn.speaker_id = ANY ($9))
    AND turn.id <> ALL ($10::uuid[])
    AND turn.conversation_id <> ALL ($11::text[])
    AND ($12::timestamptz IS NULL OR turn.created_at <= $12)
    AND turn.id <> ALL ((SELECT superseded_turns($1, $2, $3, $12))::uuid[])
    AND ($13::timestamptz IS NULL OR (turn.occurred_at, turn.id) < ($13, $14::uuid))
ORDER BY turn.occurred_at DESC, turn.id DESC
LIMIT $15;

-- name: list_turns_oldest_first
-- Reads visible turns, the earliest said first. Parameters as in list_turns_newest_first.
SELECT
    turn.id, turn.agent_id, turn.user_id, turn.conversation_id, turn.role, turn.speaker_id, turn.speaker_name,
    turn.action, turn.source, turn.event_id, turn.target_source, turn.target_event_id, turn.content, turn.metadata,
    turn.occurred_at, turn.created_at, turn.token_count
FROM conversation_embeddings AS turn
WHERE turn.tenant_id = $1
    AND turn.action <> 'deleted'
    AND (cardinality($2::uuid[]) = 0 OR turn.agent_id = ANY ($2))
    AND ($3::text IS NULL OR turn.user_id = $3)
    AND (cardinality($4::text[]) = 0 OR turn.conversation_id = ANY ($4))
    AND (cardinality($5::text[]) = 0 OR turn.role = ANY ($5))
    AND ($6::timestamptz IS NULL OR turn.occurred_at >= $6)
    AND ($7::timestamptz IS NULL OR turn.occurred_at < $7)
    AND ($8::jsonb = '{}' OR turn.metadata @> $8)
    AND (cardinality($9::text[]) = 0 OR turn.speaker_id = ANY ($9))
    AND turn.id <> ALL ($10::uuid[])
    AND turn.conversation_id <> ALL ($11::text[])
    AND ($12::timestamptz IS NULL OR turn.created_at <= $12)
    AND turn.id <> ALL ((SELECT superseded_turns($1, $2, $3, $12))::uuid[])
    AND ($13::timestamptz IS NULL OR (turn.occurred_at, turn.id) > ($13, $14::uuid))
ORDER BY turn.occurred_at, turn.id
LIMIT $15;

-- name: turn_rows
-- Reads every row of the turn that a row belongs to, in the order in which the rows take effect: the original, then
-- changes by when they were made. A row without an event can have no changes. $1 tenant, $2 row, $3 agents ({} all).
WITH wanted AS (
    SELECT
        row.id, row.agent_id, row.user_id,
        COALESCE(row.target_source, row.source) AS source, COALESCE(row.target_event_id, row.event_id) AS event_id
    FROM conversation_embeddings AS row
    WHERE row.tenant_id = $1 AND row.id = $2 AND (cardinality($3::uuid[]) = 0 OR row.agent_id = ANY ($3))
),
rows AS (
    SELECT turn.*
    FROM wanted
    JOIN conversation_embeddings AS turn ON turn.tenant_id = $1 AND turn.id = wanted.id
    UNION
    SELECT turn.*
    FROM wanted
    JOIN conversation_embeddings AS turn
        ON turn.tenant_id = $1 AND turn.agent_id = wanted.agent_id AND turn.user_id = wanted.user_id
        AND turn.source = wanted.source AND turn.event_id = wanted.event_id
    UNION
    SELECT turn.*
    FROM wanted
    JOIN conversation_embeddings AS turn
        ON turn.tenant_id = $1 AND turn.agent_id = wanted.agent_id AND turn.user_id = wanted.user_id
        AND turn.target_source = wanted.source AND turn.target_event_id = wanted.event_id
)
SELECT
    turn.id, turn.agent_id, turn.user_id, turn.conversation_id, turn.role, turn.speaker_id, turn.speaker_name,
    turn.action, turn.source, turn.event_id, turn.target_source, turn.target_event_id, turn.content, turn.metadata,
    turn.occurred_at, turn.created_at, turn.token_count
FROM rows AS turn
ORDER BY turn.action <> 'said', turn.occurred_at, turn.created_at, turn.id;

-- name: list_conversations
-- Counts visible turns by conversation, the latest active first. $1 to $12 as in nearest_turns, $13 to $16 last time,
-- agent, user and conversation of the last one read before (NULL at the start), $17 how many.
SELECT *
FROM (
    SELECT
        turn.agent_id, turn.user_id, turn.conversation_id, count(*) AS turn_count,
        min(turn.occurred_at) AS first_occurred_at, max(turn.occurred_at) AS last_occurred_at
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1
        AND turn.action <> 'deleted'
        AND (cardinality($2::uuid[]) = 0 OR turn.agent_id = ANY ($2))
        AND ($3::text IS NULL OR turn.user_id = $3)
        AND (cardinality($4::text[]) = 0 OR turn.conversation_id = ANY ($4))
        AND (cardinality($5::text[]) = 0 OR turn.role = ANY ($5))
        AND ($6::timestamptz IS NULL OR turn.occurred_at >= $6)
        AND ($7::timestamptz IS NULL OR turn.occurred_at < $7)
        AND ($8::jsonb = '{}' OR turn.metadata @> $8)
        AND (cardinality($9::text[]) = 0 OR turn.speaker_id = ANY ($9))
        AND turn.id <> ALL ($10::uuid[])
        AND turn.conversation_id <> ALL ($11::text[])
        AND ($12::timestamptz IS NULL OR turn.created_at <= $12)
        AND turn.id <> ALL ((SELECT superseded_turns($1, $2, $3, $12))::uuid[])
    GROUP BY turn.agent_id, turn.user_id, turn.conversation_id
) AS conversation
WHERE $13::timestamptz IS NULL
    OR (last_occurred_at, agent_id, user_id, conversation_id) < ($13, $14::uuid, $15::text, $16::text)
ORDER BY last_occurred_at DESC, agent_id DESC, user_id DESC, conversation_id DESC
LIMIT $17;
