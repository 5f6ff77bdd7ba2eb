-- name: append_turns
-- Stores what was said and answers for each row, in one statement. A row whose event is stored already is left out of
-- the insert and answered with what is stored; "same" says whether it was the same. A row that another transaction is
-- storing at this very moment gets no answer here: the caller runs find_events in a new statement, which then sees it.
-- "changed" says that edits or deletions of the new turn came before it: the caller runs settle_turn.
-- $1 tenant, $2 model, $3 language, then one array per column.
WITH given AS (
    SELECT *
    FROM unnest(
        $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
        $13::text[], $14::jsonb[], $15::timestamptz[], $16::integer[], $17::boolean[], $18::vector[]
    ) WITH ORDINALITY AS given (
        id, agent_id, user_id, conversation_id, role, speaker_id, speaker_name, source, event_id, content, metadata,
        occurred_at, token_count, truncated, embedding, position
    )
),
inserted AS (
    INSERT INTO conversation_embeddings (
        tenant_id, model_id, language, id, turn_id, agent_id, user_id, conversation_id, role, speaker_id, speaker_name,
        action, source, event_id, content, metadata, occurred_at, token_count, truncated, embedding
    )
    SELECT
        $1::uuid, $2::smallint, $3::text, id, id, agent_id, user_id, conversation_id, role, speaker_id, speaker_name,
        'said', source, event_id, content, metadata, occurred_at, token_count, truncated, embedding
    FROM given
    ORDER BY agent_id, user_id, source, event_id, position
    ON CONFLICT (tenant_id, agent_id, user_id, source, event_id) WHERE event_id IS NOT NULL DO NOTHING
    RETURNING id, created_at
),
speakers AS (
    INSERT INTO turn_speakers (tenant_id, user_id, agent_id, role, speaker_name)
    SELECT DISTINCT $1::uuid, user_id, agent_id, role, speaker_name
    FROM given
    ORDER BY user_id, agent_id, role, speaker_name
    ON CONFLICT DO NOTHING
)
SELECT
    given.position, inserted.id, inserted.created_at, false AS repeated, true AS same,
    given.event_id IS NOT NULL AND EXISTS (
        SELECT FROM conversation_embeddings AS change
        WHERE change.tenant_id = $1 AND change.agent_id = given.agent_id AND change.user_id = given.user_id
            AND change.target_source = given.source AND change.target_event_id = given.event_id
    ) AS changed
FROM given
JOIN inserted ON inserted.id = given.id
UNION ALL
SELECT
    given.position, stored.id, stored.created_at, true,
    (stored.action, stored.conversation_id, stored.role, stored.speaker_id, stored.content)
    = ('said', given.conversation_id, given.role, given.speaker_id, given.content),
    false
FROM given
JOIN conversation_embeddings AS stored
    ON stored.tenant_id = $1 AND stored.agent_id = given.agent_id AND stored.user_id = given.user_id
    AND stored.source = given.source AND stored.event_id = given.event_id
WHERE given.event_id IS NOT NULL;

-- name: find_events
-- Finds what is stored for events that were said, to answer a repetition that append_turns could not see yet.
-- $1 tenant, then one array per column; position is the caller's.
SELECT
    given.position, stored.id, stored.created_at, true AS repeated,
    (stored.action, stored.conversation_id, stored.role, stored.speaker_id, stored.content)
    = ('said', given.conversation_id, given.role, given.speaker_id, given.content) AS same,
    false AS changed
FROM unnest(
    $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[]
) AS given (position, agent_id, user_id, source, event_id, conversation_id, role, speaker_id, content)
JOIN conversation_embeddings AS stored
    ON stored.tenant_id = $1 AND stored.agent_id = given.agent_id AND stored.user_id = given.user_id
    AND stored.source = given.source AND stored.event_id = given.event_id;

-- name: append_change
-- Stores an edit or a deletion at the place of its turn and says what it supersedes, in one statement; the caller holds
-- the exclusive lock on the user's turns. The rules, which give the same end in every order of arrival:
--   * A deletion is final: nothing of the turn is visible from then on, whatever comes later.
--   * Of several edits the one made last stands; of two of the same moment the one whose event sorts last.
--   * The place is the original's; without it, that of the edit made first.
-- "settle" says that the new row gives the turn a better place: the caller runs settle_turn. "wrong_target" says that
-- the target is itself an edit or a deletion; then nothing was stored.
-- $1 tenant, $2 model, $3 language, $4 id, $5 agent, $6 user, $7 conversation, $8 role, $9 and $10 speaker, $11 action,
-- $12 and $13 event, $14 and $15 target, $16 content, $17 metadata, $18 when it was made, $19 word pieces, $20 whether
-- it was cut, $21 vector.
WITH event AS (
    SELECT turn.id, turn.turn_id, turn.conversation_id, turn.role, turn.speaker_id, turn.speaker_name, turn.action,
        turn.occurred_at, turn.changed_at, COALESCE(turn.source, '') AS source, COALESCE(turn.event_id, '') AS event_id,
        turn.placed_from
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1 AND turn.agent_id = $5 AND turn.user_id = $6
        AND turn.source = $14 AND turn.event_id = $15
    UNION ALL
    SELECT turn.id, turn.turn_id, turn.conversation_id, turn.role, turn.speaker_id, turn.speaker_name, turn.action,
        turn.occurred_at, turn.changed_at, COALESCE(turn.source, ''), COALESCE(turn.event_id, ''), turn.placed_from
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1 AND turn.agent_id = $5 AND turn.user_id = $6
        AND turn.target_source = $14 AND turn.target_event_id = $15
),
stored AS (
    SELECT
        turn.id, turn.created_at,
        (turn.action, turn.content, turn.target_source, turn.target_event_id)
        IS NOT DISTINCT FROM ($11::text, $16::text, $14::text, $15::text) AS same
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1 AND turn.agent_id = $5 AND turn.user_id = $6
        AND turn.source = $12 AND turn.event_id = $13
),
standing AS (
    SELECT event.id
    FROM event
    WHERE NOT EXISTS (
        SELECT FROM superseded_turns AS superseded WHERE superseded.tenant_id = $1 AND superseded.id = event.id
    )
),
place AS (
    SELECT event.*
    FROM event
    WHERE event.placed_from IS NULL
        AND (
            event.action = 'said'
            OR (
                event.action = 'edited'
                AND (event.changed_at, event.source COLLATE "C", event.event_id COLLATE "C", event.id)
                < ($18::timestamptz, COALESCE($12, '') COLLATE "C", COALESCE($13, '') COLLATE "C", $4::uuid)
            )
        )
    ORDER BY event.action = 'edited', event.changed_at, event.source COLLATE "C", event.event_id COLLATE "C", event.id
    LIMIT 1
),
verdict AS (
    SELECT
        EXISTS (
            SELECT FROM event WHERE event.action <> 'said' AND (event.source, event.event_id) = ($14, $15)
        ) AS wrong_target,
        $11 = 'edited'
        AND NOT EXISTS (SELECT FROM event WHERE event.action = 'deleted')
        AND NOT EXISTS (
            SELECT FROM event
            WHERE event.action = 'edited' AND event.placed_from IS NULL
                AND (event.changed_at, event.source COLLATE "C", event.event_id COLLATE "C", event.id)
                > ($18::timestamptz, COALESCE($12, '') COLLATE "C", COALESCE($13, '') COLLATE "C", $4::uuid)
        ) AS stands
),
inserted AS (
    INSERT INTO conversation_embeddings (
        tenant_id, model_id, language, id, turn_id, agent_id, user_id, conversation_id, role, speaker_id, speaker_name,
        action, source, event_id, target_source, target_event_id, content, metadata, occurred_at, changed_at,
        token_count, truncated, embedding
    )
    SELECT
        $1, $2::smallint, $3::text, $4, COALESCE(place.turn_id, $4), $5, $6, COALESCE(place.conversation_id, $7),
        COALESCE(place.role, $8), COALESCE(place.speaker_id, $9), COALESCE(place.speaker_name, $10), $11, $12, $13, $14,
        $15, $16, $17::jsonb, COALESCE(place.occurred_at, $18), $18, $19::integer, $20::boolean, $21::vector
    FROM verdict
    LEFT JOIN place ON true
    WHERE NOT verdict.wrong_target AND NOT EXISTS (SELECT FROM stored)
    RETURNING id, created_at
),
superseding AS (
    INSERT INTO superseded_turns (tenant_id, id, agent_id, user_id)
    SELECT $1, superseded.id, $5, $6
    FROM verdict
    CROSS JOIN inserted
    CROSS JOIN LATERAL (
        SELECT inserted.id WHERE NOT verdict.stands
        UNION ALL
        SELECT standing.id FROM standing WHERE verdict.stands OR $11 = 'deleted'
    ) AS superseded
)
SELECT
    inserted.id, inserted.created_at, false AS repeated, true AS same,
    $11 = 'edited' AND NOT verdict.stands AND NOT EXISTS (SELECT FROM place) AND EXISTS (SELECT FROM standing) AS settle,
    false AS wrong_target
FROM inserted
CROSS JOIN verdict
UNION ALL
SELECT stored.id, stored.created_at, true, stored.same, false, false FROM stored
UNION ALL
SELECT $4, now(), false, false, false, true
FROM verdict
WHERE verdict.wrong_target AND NOT EXISTS (SELECT FROM stored);

-- name: settle_turn
-- Stores the state of a turn once more at the place of a row that came late, its original or the edit made first, and
-- supersedes what stood there before; and that row itself, unless append_change did so. Of a deleted turn only the row
-- is superseded. $1 tenant, $2 the row that came late, $3 id of the new row.
WITH place AS (
    SELECT
        turn.id, turn.turn_id, turn.agent_id, turn.user_id, turn.conversation_id, turn.role, turn.speaker_id,
        turn.speaker_name, turn.occurred_at, COALESCE(turn.target_source, turn.source) AS source,
        COALESCE(turn.target_event_id, turn.event_id) AS event_id
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1 AND turn.id = $2
),
standing AS (
    SELECT turn.*
    FROM place
    JOIN conversation_embeddings AS turn
        ON turn.tenant_id = $1 AND turn.agent_id = place.agent_id AND turn.user_id = place.user_id
        AND turn.target_source = place.source AND turn.target_event_id = place.event_id
    WHERE turn.id <> place.id AND NOT EXISTS (
        SELECT FROM superseded_turns AS superseded WHERE superseded.tenant_id = $1 AND superseded.id = turn.id
    )
),
settled AS (
    INSERT INTO conversation_embeddings (
        tenant_id, model_id, language, id, turn_id, agent_id, user_id, conversation_id, role, speaker_id, speaker_name,
        action, target_source, target_event_id, content, metadata, occurred_at, changed_at, placed_from, token_count,
        truncated, embedding
    )
    SELECT
        $1, standing.model_id, standing.language, $3, place.turn_id, place.agent_id, place.user_id,
        place.conversation_id, place.role, place.speaker_id, place.speaker_name, 'edited', standing.target_source,
        standing.target_event_id, standing.content, standing.metadata, place.occurred_at, standing.changed_at,
        COALESCE(standing.placed_from, standing.id), standing.token_count, standing.truncated, standing.embedding
    FROM place
    CROSS JOIN standing
)
INSERT INTO superseded_turns (tenant_id, id, agent_id, user_id)
SELECT $1, superseded.id, place.agent_id, place.user_id
FROM place
CROSS JOIN LATERAL (
    SELECT place.id
    UNION ALL
    SELECT standing.id FROM standing
) AS superseded
ON CONFLICT (tenant_id, id) DO NOTHING;

-- name: register_model
-- Makes sure a model is known and gives its number. $1 name, $2 precision, $3 sha256, $4 dimensions.
INSERT INTO embedding_models (name, precision, sha256, dimensions)
VALUES ($1, $2, $3, $4)
ON CONFLICT (name, precision, sha256) DO NOTHING
RETURNING id;

-- name: find_model
-- Gives the number of a known model. $1 name, $2 precision, $3 sha256.
SELECT id FROM embedding_models WHERE name = $1 AND precision = $2 AND sha256 = $3;

-- name: list_turns_newest_first
-- Reads visible turns, the latest said first. $1 tenant, $2 agents ({} all), $3 user (NULL
-- all), $4 conversations ({} all), $5 roles ({} all), $6 from, $7 until, $8 metadata it must contain, $9 speaker ids ({}
-- all), $10 turns to leave out, $11 conversations to leave out, $12 known at, $13 and $14 time and id of the last turn
-- read before (NULL at the start), $15 how many.
SELECT
    turn.id, turn.turn_id, turn.agent_id, turn.user_id, turn.conversation_id, turn.role, turn.speaker_id,
    turn.speaker_name, turn.action, turn.source, turn.event_id, turn.target_source, turn.target_event_id, turn.content,
    turn.metadata, turn.occurred_at, turn.created_at, turn.changed_at, turn.token_count
FROM conversation_embeddings AS turn
WHERE turn.tenant_id = $1
    AND (cardinality($2::uuid[]) = 0 OR turn.agent_id = ANY ($2))
    AND ($3::text IS NULL OR turn.user_id = $3)
    AND (cardinality($4::text[]) = 0 OR turn.conversation_id = ANY ($4))
    AND (cardinality($5::text[]) = 0 OR turn.role = ANY ($5))
    AND ($6::timestamptz IS NULL OR turn.occurred_at >= $6)
    AND ($7::timestamptz IS NULL OR turn.occurred_at < $7)
    AND ($8::jsonb = '{}' OR turn.metadata @> $8)
    AND (cardinality($9::text[]) = 0 OR turn.speaker_id = ANY ($9))
    AND turn.turn_id <> ALL ($10::uuid[])
    AND turn.conversation_id <> ALL ($11::text[])
    AND ($12::timestamptz IS NULL OR turn.created_at <= $12)
    AND NOT EXISTS (
        SELECT FROM superseded_turns AS superseded
        WHERE superseded.tenant_id = $1 AND superseded.id = turn.id
            AND ($12::timestamptz IS NULL OR superseded.superseded_at <= $12)
            AND ($3::text IS NULL OR superseded.user_id = $3)
    )
    AND ($13::timestamptz IS NULL OR (turn.occurred_at, turn.turn_id) < ($13, $14::uuid))
ORDER BY turn.occurred_at DESC, turn.turn_id DESC
LIMIT $15;

-- name: list_turns_oldest_first
-- Reads visible turns, the earliest said first. Parameters as in list_turns_newest_first.
SELECT
    turn.id, turn.turn_id, turn.agent_id, turn.user_id, turn.conversation_id, turn.role, turn.speaker_id,
    turn.speaker_name, turn.action, turn.source, turn.event_id, turn.target_source, turn.target_event_id, turn.content,
    turn.metadata, turn.occurred_at, turn.created_at, turn.changed_at, turn.token_count
FROM conversation_embeddings AS turn
WHERE turn.tenant_id = $1
    AND (cardinality($2::uuid[]) = 0 OR turn.agent_id = ANY ($2))
    AND ($3::text IS NULL OR turn.user_id = $3)
    AND (cardinality($4::text[]) = 0 OR turn.conversation_id = ANY ($4))
    AND (cardinality($5::text[]) = 0 OR turn.role = ANY ($5))
    AND ($6::timestamptz IS NULL OR turn.occurred_at >= $6)
    AND ($7::timestamptz IS NULL OR turn.occurred_at < $7)
    AND ($8::jsonb = '{}' OR turn.metadata @> $8)
    AND (cardinality($9::text[]) = 0 OR turn.speaker_id = ANY ($9))
    AND turn.turn_id <> ALL ($10::uuid[])
    AND turn.conversation_id <> ALL ($11::text[])
    AND ($12::timestamptz IS NULL OR turn.created_at <= $12)
    AND NOT EXISTS (
        SELECT FROM superseded_turns AS superseded
        WHERE superseded.tenant_id = $1 AND superseded.id = turn.id
            AND ($12::timestamptz IS NULL OR superseded.superseded_at <= $12)
            AND ($3::text IS NULL OR superseded.user_id = $3)
    )
    AND ($13::timestamptz IS NULL OR (turn.occurred_at, turn.turn_id) > ($13, $14::uuid))
ORDER BY turn.occurred_at, turn.turn_id
LIMIT $15;

-- name: turn_rows
-- Reads every event of the turn that a row belongs to: the original, then changes by when they were made. "standing" is
-- true for the row that says how the turn stands; a row that only repeats an edit at a better place is given with
-- "repeats" true. A row without an event can have no changes. $1 tenant, $2 row, $3 agents ({} all).
WITH wanted AS (
    SELECT
        row.id, row.agent_id, row.user_id,
        COALESCE(row.target_source, row.source) AS source, COALESCE(row.target_event_id, row.event_id) AS event_id
    FROM conversation_embeddings AS row
    WHERE row.tenant_id = $1 AND row.id = $2 AND (cardinality($3::uuid[]) = 0 OR row.agent_id = ANY ($3))
),
found AS (
    SELECT wanted.id
    FROM wanted
    UNION
    SELECT turn.id
    FROM wanted
    JOIN conversation_embeddings AS turn
        ON turn.tenant_id = $1 AND turn.agent_id = wanted.agent_id AND turn.user_id = wanted.user_id
        AND turn.source = wanted.source AND turn.event_id = wanted.event_id
    UNION
    SELECT turn.id
    FROM wanted
    JOIN conversation_embeddings AS turn
        ON turn.tenant_id = $1 AND turn.agent_id = wanted.agent_id AND turn.user_id = wanted.user_id
        AND turn.target_source = wanted.source AND turn.target_event_id = wanted.event_id
)
SELECT
    turn.id, turn.turn_id, turn.agent_id, turn.user_id, turn.conversation_id, turn.role, turn.speaker_id,
    turn.speaker_name, turn.action, turn.source, turn.event_id, turn.target_source, turn.target_event_id, turn.content,
    turn.metadata, turn.occurred_at, turn.created_at, turn.changed_at, turn.token_count,
    turn.placed_from IS NOT NULL AS repeats,
    NOT EXISTS (
        SELECT FROM superseded_turns AS superseded WHERE superseded.tenant_id = $1 AND superseded.id = turn.id
    ) AS standing
FROM found
JOIN conversation_embeddings AS turn ON turn.tenant_id = $1 AND turn.id = found.id
ORDER BY
    turn.action <> 'said', turn.changed_at, COALESCE(turn.source, '') COLLATE "C",
    COALESCE(turn.event_id, '') COLLATE "C", turn.id;

-- name: list_conversations
-- Counts visible turns by conversation, the latest active first. $1 to $12 as in list_turns_newest_first, $13 to $16 last time,
-- agent, user and conversation of the last one read before (NULL at the start), $17 how many.
SELECT *
FROM (
    SELECT
        turn.agent_id, turn.user_id, turn.conversation_id, count(*) AS turn_count,
        min(turn.occurred_at) AS first_occurred_at, max(turn.occurred_at) AS last_occurred_at
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1
        AND (cardinality($2::uuid[]) = 0 OR turn.agent_id = ANY ($2))
        AND ($3::text IS NULL OR turn.user_id = $3)
        AND (cardinality($4::text[]) = 0 OR turn.conversation_id = ANY ($4))
        AND (cardinality($5::text[]) = 0 OR turn.role = ANY ($5))
        AND ($6::timestamptz IS NULL OR turn.occurred_at >= $6)
        AND ($7::timestamptz IS NULL OR turn.occurred_at < $7)
        AND ($8::jsonb = '{}' OR turn.metadata @> $8)
        AND (cardinality($9::text[]) = 0 OR turn.speaker_id = ANY ($9))
        AND turn.turn_id <> ALL ($10::uuid[])
        AND turn.conversation_id <> ALL ($11::text[])
        AND ($12::timestamptz IS NULL OR turn.created_at <= $12)
        AND NOT EXISTS (
            SELECT FROM superseded_turns AS superseded
            WHERE superseded.tenant_id = $1 AND superseded.id = turn.id
                AND ($12::timestamptz IS NULL OR superseded.superseded_at <= $12)
                AND ($3::text IS NULL OR superseded.user_id = $3)
        )
    GROUP BY turn.agent_id, turn.user_id, turn.conversation_id
) AS conversation
WHERE $13::timestamptz IS NULL
    OR (last_occurred_at, agent_id, user_id, conversation_id) < ($13, $14::uuid, $15::text, $16::text)
ORDER BY last_occurred_at DESC, agent_id DESC, user_id DESC, conversation_id DESC
LIMIT $17;
