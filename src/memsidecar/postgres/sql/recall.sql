-- name: scope_of_user_and_agent
-- Statements that look at a scope are put together from parts: "/* scope */ true" is replaced by the conditions that the
-- scope at hand has, and no others. So each kind of scope has plans of its own, which are right whatever the values are,
-- read no column that is not asked for, and stay index-only where the index holds what is asked.
--
-- Narrowest index condition for a scope of one user of one agent.
turn.agent_id = ($2::uuid[])[1] AND turn.user_id = $3

-- name: scope_of_user
-- Narrowest index condition for a scope of one user.
turn.user_id = $3

-- name: scope_of_conversations
-- Narrowest index condition for a scope of some conversations.
turn.conversation_id = ANY ($4)

-- name: scope_of_agent
-- Narrowest index condition for a scope of one agent.
turn.agent_id = ($2::uuid[])[1]

-- name: scope_of_tenant
-- A scope of the whole tenant has no narrower condition.
true

-- name: filter_agents
-- Turns of some agents.
turn.agent_id = ANY ($2)

-- name: filter_user
-- Turns of a user.
turn.user_id = $3

-- name: filter_roles
-- Turns said in some roles.
turn.role = ANY ($5)

-- name: filter_from
-- Turns said at a moment or later.
turn.occurred_at >= $6

-- name: filter_until
-- Turns said before a moment.
turn.occurred_at < $7

-- name: filter_metadata
-- Turns whose metadata hold something.
turn.metadata @> $8

-- name: filter_speakers
-- Turns of some speakers.
turn.speaker_id = ANY ($9)

-- name: filter_excluded_turns
-- All but some turns.
turn.turn_id <> ALL ($10)

-- name: filter_excluded_conversations
-- All but some conversations.
turn.conversation_id <> ALL ($11)

-- name: filter_standing
-- Rows that say how a turn stands now.
NOT EXISTS (
    SELECT FROM superseded_turns AS superseded WHERE superseded.tenant_id = $1 AND superseded.id = turn.id
)

-- name: filter_standing_of_user
-- Rows of one user that say how a turn stands now.
NOT EXISTS (
    SELECT FROM superseded_turns AS superseded
    WHERE superseded.tenant_id = $1 AND superseded.id = turn.id AND superseded.user_id = $3
)

-- name: filter_stood
-- Rows that said how a turn stood at a past moment.
turn.created_at <= $12
AND NOT EXISTS (
    SELECT FROM superseded_turns AS superseded
    WHERE superseded.tenant_id = $1 AND superseded.id = turn.id AND superseded.superseded_at <= $12
)

-- name: participants
-- Says which roles speak in a scope and which speakers' names occur in a query. A scope without a user may have very
-- many speakers; the first 10,000 are looked at. $1 tenant, $2 agents ({} all), $3 user (NULL all), $4 query.
SELECT
    speaker.role,
    COALESCE(
        array_agg(DISTINCT speaker.speaker_name)
            FILTER (WHERE speaker.speaker_name <> '' AND strpos(lower($4::text), lower(speaker.speaker_name)) > 0),
        '{}'
    ) AS names
FROM (
    SELECT role, speaker_name
    FROM turn_speakers
    WHERE tenant_id = $1
        AND ($3::text IS NULL OR user_id = $3)
        AND (cardinality($2::uuid[]) = 0 OR agent_id = ANY ($2))
    LIMIT 10000
) AS speaker
GROUP BY speaker.role;

-- name: nearest_turns
-- Gives exactly the nearest visible turns of a scope by cosine distance. The scope is scanned by half-precision vectors;
-- rounding both vectors of a pair to 11 significant bits moves their distance by less than 0.001, so that every turn
-- within twice that of the last one needed is measured again in full. Ties: the latest said first, then by id.
-- $1 tenant, $2 agents ({} all), $3 user (NULL all), $4 conversations ({} all), $5 roles ({} all), $6 from, $7 until,
-- $8 metadata it must contain, $9 speaker ids ({} all), $10 turns to leave out, $11 conversations to leave out,
-- $12 known at, $13 model, $14 vector, $15 how many. "given" is never read: it tells the types of parameters that the
-- scope at hand does not use.
WITH given AS (
    SELECT
        $2::uuid[], $3::text, $4::text[], $5::text[], $6::timestamptz, $7::timestamptz, $8::jsonb, $9::text[],
        $10::uuid[], $11::text[], $12::timestamptz
),
query AS MATERIALIZED (
    SELECT $14::vector::halfvec(384) AS half
),
scope AS MATERIALIZED (
    SELECT turn.id, turn.embedding_half <=> (SELECT half FROM query) AS distance
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1 AND turn.model_id = $13 AND /* scope */ true
),
reach AS MATERIALIZED (
    SELECT max(nearest.distance) + 0.002 AS distance
    FROM (SELECT scope.distance FROM scope ORDER BY scope.distance LIMIT $15) AS nearest
)
SELECT turn.*
FROM scope
CROSS JOIN LATERAL (
    SELECT
        turn.id, turn.turn_id, turn.agent_id, turn.user_id, turn.conversation_id, turn.role, turn.speaker_id,
        turn.speaker_name, turn.action, turn.source, turn.event_id, turn.target_source, turn.target_event_id,
        turn.content, turn.metadata, turn.occurred_at, turn.created_at, turn.changed_at, turn.token_count,
        1 - (turn.embedding <=> $14::vector) AS similarity
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1 AND turn.id = scope.id
    OFFSET 0
) AS turn
WHERE scope.distance <= (SELECT reach.distance FROM reach)
ORDER BY turn.similarity DESC, turn.occurred_at DESC, turn.turn_id
LIMIT $15;

-- name: prefer_lists
-- Settings of a transaction that searches by a tenant's own index: its plan must be made for the tenant at hand, or the
-- index, which is partial on it, cannot be used. 90 lists of 320 to 1,190 held 99.4 % or more of the right ten in all
-- seven scopes measured, for turns found by half-precision and four times as many as wanted measured again in full.
SET LOCAL plan_cache_mode = force_custom_plan;
SET LOCAL ivfflat.iterative_scan = relaxed_order;
SET LOCAL ivfflat.probes = 90;

-- name: nearest_turns_by_lists
-- Gives nearly always the nearest visible turns of a large scope: those that the tenant's own index gives, measured in
-- full. May give fewer than asked for; then nearest_turns gives all. Parameters as in nearest_turns.
WITH given AS (
    SELECT
        $2::uuid[], $3::text, $4::text[], $5::text[], $6::timestamptz, $7::timestamptz, $8::jsonb, $9::text[],
        $10::uuid[], $11::text[], $12::timestamptz
),
near AS MATERIALIZED (
    SELECT turn.id
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1 AND turn.model_id = $13 AND /* scope */ true
    ORDER BY turn.embedding_half <=> $14::vector::halfvec(384)
    LIMIT 4 * $15::integer
)
SELECT turn.*
FROM near
CROSS JOIN LATERAL (
    SELECT
        turn.id, turn.turn_id, turn.agent_id, turn.user_id, turn.conversation_id, turn.role, turn.speaker_id,
        turn.speaker_name, turn.action, turn.source, turn.event_id, turn.target_source, turn.target_event_id,
        turn.content, turn.metadata, turn.occurred_at, turn.created_at, turn.changed_at, turn.token_count,
        1 - (turn.embedding <=> $14::vector) AS similarity
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1 AND turn.id = near.id
    OFFSET 0
) AS turn
ORDER BY turn.similarity DESC, turn.occurred_at DESC, turn.turn_id
LIMIT $15;

-- name: recall_candidates
-- Gives what ranking needs: the best turns of a scope by meaning and by words, $17 of each, and up to two turns of the
-- same conversation on each side of them, in order of conversation and time. With the first row come the statistics of
-- the scope: how many turns, their average length, and in how many each lexeme of the query occurs. Of a long query the
-- 32 longest lexemes count. BM25's constants are those of domain/ranking.py; a lexeme counts once per turn.
-- $1 to $14 as in nearest_turns, $15 language, $16 query, $17 how many of each leg.
WITH given AS (
    SELECT
        $2::uuid[], $3::text, $4::text[], $5::text[], $6::timestamptz, $7::timestamptz, $8::jsonb, $9::text[],
        $10::uuid[], $11::text[], $12::timestamptz
),
asked AS MATERIALIZED (
    SELECT
        (row_number() OVER (ORDER BY length(word) DESC, word) - 1)::integer AS bit,
        ('''' || replace(replace(word, '\', '\\'), '''', '''''') || '''')::tsquery AS term
    FROM unnest(tsvector_to_array(text_lexemes($15, $16))) AS word
    ORDER BY bit
    LIMIT 32
),
query AS MATERIALIZED (
    SELECT $14::vector::halfvec(384) AS half, string_agg(asked.term::text, ' | ')::tsquery AS any_term FROM asked
),
scope AS MATERIALIZED (
    SELECT
        turn.id, turn.agent_id, turn.user_id COLLATE "C" AS user_id, turn.conversation_id COLLATE "C" AS conversation_id,
        turn.occurred_at, COALESCE(NULLIF(turn.speaker_name, ''), turn.role) AS speaker, turn.asks,
        turn.embedding_half <=> (SELECT half FROM query) AS distance,
        length(turn.lexemes) AS length,
        CASE
            WHEN turn.lexemes @@ (SELECT any_term FROM query)
                THEN (SELECT bit_or(1::bigint << asked.bit) FROM asked WHERE turn.lexemes @@ asked.term)
            ELSE 0
        END AS matched
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1 AND turn.model_id = $13 AND /* scope */ true
),
combination AS MATERIALIZED (
    SELECT scope.matched, count(*) AS turns, sum(scope.length) AS length FROM scope GROUP BY scope.matched
),
corpus AS MATERIALIZED (
    SELECT
        sum(combination.turns)::float8 AS turns,
        sum(combination.length)::float8 / sum(combination.turns)::float8 AS average_length
    FROM combination
),
term AS MATERIALIZED (
    SELECT
        asked.bit,
        COALESCE(sum(combination.turns) FILTER (WHERE combination.matched >> asked.bit & 1 = 1), 0)::float8
            AS turns
    FROM asked
    LEFT JOIN combination ON true
    GROUP BY asked.bit
),
weighted AS MATERIALIZED (
    SELECT
        combination.matched,
        (
            SELECT sum(ln(1 + (corpus.turns - term.turns + 0.5) / (term.turns + 0.5)))
            FROM term, corpus
            WHERE combination.matched >> term.bit & 1 = 1
        ) AS weight
    FROM combination
    WHERE combination.matched <> 0
),
worded AS MATERIALIZED (
    SELECT min(best.words) AS words
    FROM (
        SELECT weighted.weight / (0.25 + 0.75::float8 * scope.length / GREATEST(corpus.average_length, 1) + 1 / 1.2::float8) AS words
        FROM scope
        JOIN weighted ON weighted.matched = scope.matched
        CROSS JOIN corpus
        ORDER BY words DESC
        LIMIT $17
    ) AS best
),
near AS MATERIALIZED (
    SELECT max(best.distance) AS distance
    FROM (SELECT scope.distance FROM scope ORDER BY scope.distance LIMIT $17) AS best
),
placed AS (
    SELECT
        scope.*,
        row_number() OVER (ORDER BY scope.agent_id, scope.user_id, scope.conversation_id, scope.occurred_at, scope.id)
            AS position,
        row_number() OVER spoken AS place,
        sum((
            scope.distance <= near.distance
            OR weighted.weight / (0.25 + 0.75::float8 * scope.length / GREATEST(corpus.average_length, 1) + 1 / 1.2::float8)
            >= worded.words
        )::integer) OVER (spoken ROWS BETWEEN 2 PRECEDING AND 2 FOLLOWING) > 0 AS counts
    FROM scope
    LEFT JOIN weighted ON weighted.matched = scope.matched
    CROSS JOIN corpus
    CROSS JOIN near
    CROSS JOIN worded
    WINDOW spoken AS (
        PARTITION BY scope.agent_id, scope.user_id, scope.conversation_id ORDER BY scope.occurred_at, scope.id
    )
)
SELECT
    kept.id, kept.position - kept.place AS thread, kept.position,
    date_part('epoch', kept.occurred_at) AS said_at, kept.speaker, kept.asks,
    1 - kept.distance AS cosine, kept.matched, kept.length,
    CASE
        WHEN row_number() OVER (ORDER BY kept.position) = 1
            THEN ARRAY[corpus.turns, corpus.average_length] || ARRAY(SELECT term.turns FROM term ORDER BY term.bit)
    END AS corpus
FROM placed AS kept
CROSS JOIN corpus
WHERE kept.counts
ORDER BY kept.position;

-- name: recalled_turns
-- Reads turns by row, with their exact similarity to the query. $1 tenant, $2 rows, $3 vector.
SELECT
    turn.id, turn.turn_id, turn.agent_id, turn.user_id, turn.conversation_id, turn.role, turn.speaker_id,
    turn.speaker_name, turn.action, turn.source, turn.event_id, turn.target_source, turn.target_event_id, turn.content,
    turn.metadata, turn.occurred_at, turn.created_at, turn.changed_at, turn.token_count,
    1 - (turn.embedding <=> $3::vector) AS similarity
FROM conversation_embeddings AS turn
WHERE turn.tenant_id = $1 AND turn.id = ANY ($2::uuid[]);

-- name: near_duplicates
-- Gives pairs of rows whose vectors are at least so similar. $1 tenant, $2 rows, $3 cosine similarity.
SELECT earlier.id, later.id AS duplicate_id
FROM conversation_embeddings AS earlier
JOIN conversation_embeddings AS later ON later.tenant_id = $1 AND later.id = ANY ($2::uuid[])
WHERE earlier.tenant_id = $1 AND earlier.id = ANY ($2::uuid[])
    AND array_position($2, earlier.id) < array_position($2, later.id)
    AND earlier.embedding <=> later.embedding <= 1 - $3::float8;

-- name: surrounding_turns
-- Reads up to so many visible turns on each side of rows, of the same conversation, user and agent. $1 tenant, $2 rows,
-- $3 how many on each side, $4 known at.
SELECT
    around.row_id, turn.id, turn.turn_id, turn.agent_id, turn.user_id, turn.conversation_id, turn.role,
    turn.speaker_id, turn.speaker_name, turn.action, turn.source, turn.event_id, turn.target_source,
    turn.target_event_id, turn.content, turn.metadata, turn.occurred_at, turn.created_at, turn.changed_at,
    turn.token_count
FROM (
    SELECT hit.id AS row_id, before.id
    FROM conversation_embeddings AS hit
    CROSS JOIN LATERAL (
        SELECT turn.id
        FROM conversation_embeddings AS turn
        WHERE turn.tenant_id = $1 AND turn.conversation_id = hit.conversation_id
            AND turn.agent_id = hit.agent_id AND turn.user_id = hit.user_id
            AND (turn.occurred_at, turn.id) < (hit.occurred_at, hit.id)
            AND ($4::timestamptz IS NULL OR turn.created_at <= $4)
            AND NOT EXISTS (
                SELECT FROM superseded_turns AS superseded
                WHERE superseded.tenant_id = $1 AND superseded.id = turn.id
                    AND ($4::timestamptz IS NULL OR superseded.superseded_at <= $4)
            )
        ORDER BY turn.occurred_at DESC, turn.id DESC
        LIMIT $3
    ) AS before
    WHERE hit.tenant_id = $1 AND hit.id = ANY ($2::uuid[])
    UNION ALL
    SELECT hit.id AS row_id, after.id
    FROM conversation_embeddings AS hit
    CROSS JOIN LATERAL (
        SELECT turn.id
        FROM conversation_embeddings AS turn
        WHERE turn.tenant_id = $1 AND turn.conversation_id = hit.conversation_id
            AND turn.agent_id = hit.agent_id AND turn.user_id = hit.user_id
            AND (turn.occurred_at, turn.id) > (hit.occurred_at, hit.id)
            AND ($4::timestamptz IS NULL OR turn.created_at <= $4)
            AND NOT EXISTS (
                SELECT FROM superseded_turns AS superseded
                WHERE superseded.tenant_id = $1 AND superseded.id = turn.id
                    AND ($4::timestamptz IS NULL OR superseded.superseded_at <= $4)
            )
        ORDER BY turn.occurred_at, turn.id
        LIMIT $3
    ) AS after
    WHERE hit.tenant_id = $1 AND hit.id = ANY ($2::uuid[])
) AS around
JOIN conversation_embeddings AS turn ON turn.tenant_id = $1 AND turn.id = around.id
ORDER BY around.row_id, turn.occurred_at, turn.id;
