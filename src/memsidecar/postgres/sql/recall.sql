-- name: scope_of_user_and_agent
-- Narrowest index condition for a scope of one user of one agent. Takes the place of "/* scope */ true" below, so that
-- each kind of scope has a plan of its own that is right whatever its parameters are.
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
-- $12 known at, $13 model, $14 vector, $15 how many.
WITH query AS MATERIALIZED (
    SELECT $14::vector::halfvec(384) AS half
),
scope AS MATERIALIZED (
    SELECT turn.id, turn.embedding_half <=> (SELECT half FROM query) AS distance
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1
        AND /* scope */ true
        AND turn.model_id = $13
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

-- name: recall_candidates
-- Gives what ranking needs: the best turns of a scope by meaning and by words, $17 of each, and up to two turns of the
-- same conversation on each side of them, in order of conversation and time. With them come the statistics of the scope:
-- how many turns, their average length, and, in the first row, in how many each lexeme of the query occurs. Of a long query the 32
-- longest lexemes count. BM25's constants are those of domain/ranking.py; a lexeme counts once per turn.
-- $1 to $14 as in nearest_turns, $15 language, $16 query, $17 how many of each leg.
WITH query AS MATERIALIZED (
    SELECT
        $14::vector::halfvec(384) AS half,
        COALESCE(array_agg(lexeme.term), '{}') AS terms,
        string_agg(lexeme.term::text, ' | ')::tsquery AS any_term
    FROM (
        SELECT ('''' || replace(replace(word, '\', '\\'), '''', '''''') || '''')::tsquery AS term
        FROM unnest(tsvector_to_array(text_lexemes($15, $16))) AS word
        ORDER BY length(word) DESC, word
        LIMIT 32
    ) AS lexeme
),
scope AS MATERIALIZED (
    SELECT
        turn.id, turn.agent_id, turn.user_id, turn.conversation_id, turn.occurred_at,
        COALESCE(NULLIF(turn.speaker_name, ''), turn.role) AS speaker, turn.asks,
        turn.embedding_half <=> (SELECT half FROM query) AS distance,
        length(turn.lexemes) AS length,
        CASE
            WHEN turn.lexemes @@ (SELECT any_term FROM query)
                THEN matched_terms(turn.lexemes, (SELECT terms FROM query))
            ELSE 0
        END AS matched
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1
        AND /* scope */ true
        AND turn.model_id = $13
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
),
combination AS MATERIALIZED (
    SELECT scope.matched, count(*) AS turns, sum(scope.length) AS length FROM scope GROUP BY scope.matched
),
corpus AS MATERIALIZED (
    SELECT sum(combination.turns) AS turns, sum(combination.length) / sum(combination.turns) AS average_length
    FROM combination
),
term AS MATERIALIZED (
    SELECT
        place.bit,
        COALESCE(sum(combination.turns) FILTER (WHERE combination.matched >> place.bit & 1 = 1), 0) AS turns
    FROM generate_series(0, (SELECT cardinality(terms) FROM query) - 1) AS place (bit)
    CROSS JOIN combination
    GROUP BY place.bit
),
weighted AS MATERIALIZED (
    SELECT
        combination.matched,
        (
            SELECT sum(ln(1 + (corpus.turns - term.turns + 0.5) / (term.turns + 0.5))::double precision)
            FROM term, corpus
            WHERE combination.matched >> term.bit & 1 = 1
        ) AS weight
    FROM combination
),
placed AS (
    SELECT
        scope.*,
        dense_rank() OVER (ORDER BY scope.agent_id, scope.user_id, scope.conversation_id) AS thread,
        row_number() OVER (
            PARTITION BY scope.agent_id, scope.user_id, scope.conversation_id ORDER BY scope.occurred_at, scope.id
        ) AS position,
        row_number() OVER (ORDER BY scope.distance, scope.id) <= $17 AS is_near,
        scope.matched <> 0 AND row_number() OVER (
            ORDER BY
                weighted.weight / (1 + 1.2 * (0.25 + 0.75 * scope.length / GREATEST(corpus.average_length, 1)::double precision))
                DESC NULLS LAST,
                scope.id
        ) <= $17 AS is_worded
    FROM scope
    JOIN weighted ON weighted.matched = scope.matched
    CROSS JOIN corpus
),
surrounded AS (
    SELECT
        placed.*,
        bool_or(placed.is_near OR placed.is_worded) OVER (
            PARTITION BY placed.thread ORDER BY placed.position ROWS BETWEEN 2 PRECEDING AND 2 FOLLOWING
        ) AS counts
    FROM placed
)
SELECT
    kept.id, kept.thread, kept.position, kept.occurred_at, kept.speaker, kept.asks, 1 - kept.distance AS cosine,
    kept.matched, kept.length,
    (SELECT turns FROM corpus)::bigint AS corpus_turns,
    (SELECT average_length FROM corpus)::double precision AS corpus_average_length,
    CASE
        WHEN row_number() OVER (ORDER BY kept.thread, kept.position) = 1
            THEN ARRAY(SELECT term.turns::bigint FROM term ORDER BY term.bit)
    END AS corpus_frequencies
FROM surrounded AS kept
WHERE kept.counts
ORDER BY kept.thread, kept.position;

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
    AND earlier.embedding <=> later.embedding <= 1 - $3::double precision;

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
