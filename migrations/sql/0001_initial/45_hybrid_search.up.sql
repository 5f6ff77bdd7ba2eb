-- Finds passages by meaning and by word at once; usable by hand as the app role with a tenant set, for example
--   SELECT content, score FROM hybrid_search('refund "travel costs" -hotel', for_user => 'U42');
--
-- query: any of its words may match, the rarer the better; "exact words" must stand together; -word and -"exact words"
-- must not occur. query_embedding: NULL searches by words alone. for_user sees own documents and global ones; NULL sees
-- global ones; whole_tenant shows all. model: whose vectors query_embedding can be compared with; NULL for any.
-- candidates: chunks taken from each leg. by_document: top_k counts documents, and further chunks of these follow.
--
-- Gives min(top_k, matching chunks) rows, best first. The score is the weighted sum of the legs' scores, each divided by
-- the best one of its leg; every candidate is scored in both legs, whichever found it. A rank of 0 says that the leg did
-- not find it.
--
-- Runs as memsidecar_search, which sees every tenant's chunks: each table is read with tenant_id = tenant, and tenant
-- comes from the setting alone.
CREATE FUNCTION hybrid_search(
    query text,
    query_embedding vector(384) DEFAULT NULL,
    top_k integer DEFAULT 10,
    for_user text DEFAULT NULL,
    whole_tenant boolean DEFAULT false,
    exclude_global boolean DEFAULT false,
    document_types text[] DEFAULT '{}',
    document_ids uuid[] DEFAULT '{}',
    metadata_contains jsonb DEFAULT '{}',
    occurred_from timestamptz DEFAULT NULL,
    occurred_until timestamptz DEFAULT NULL,
    model smallint DEFAULT NULL,
    vector_weight double precision DEFAULT 0.4,
    lexical_weight double precision DEFAULT 0.6,
    candidates integer DEFAULT 100,
    by_document boolean DEFAULT false
) RETURNS TABLE (
    chunk_id uuid, document_id uuid, content text, score double precision, similarity double precision,
    vector_score double precision, vector_rank integer, bm25_score double precision, lexical_score double precision,
    lexical_rank integer
)
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100
    -- The statements are planned for the arguments at hand: what is not asked for then costs nothing.
    SET plan_cache_mode = force_custom_plan
    AS $$
#variable_conflict use_column
DECLARE
    -- The first chunks by id, a random sample, stand for the tenant when words are weighed.
    sample_size CONSTANT integer := 500;
    -- Chunks looked at for words: as many of the rarest words generate candidates as are expected to stay within it.
    lexical_budget CONSTANT integer := 2000;

    tenant CONSTANT uuid := NULLIF(current_setting('app.current_tenant', true), '')::uuid;
    -- Of a document at most three chunks go into the pool when documents are asked for, so that it holds enough of these.
    chunks_of_document CONSTANT integer := 3;
    pool CONSTANT integer := greatest(candidates, CASE WHEN by_document THEN chunks_of_document * top_k ELSE top_k END);
    wanted CONSTANT text := translate(query, '“”„', '"""');
    phrases CONSTANT text[] := query_phrases(wanted);
    readers text[];
    condition tsquery;
    near_ids uuid[];
    words tsquery[];
    frequencies double precision[];
    generates boolean[];
    generating tsquery;
    chunk_count double precision;
    average_length double precision;
BEGIN
    IF tenant IS NULL THEN
        RETURN;
    END IF;
    readers := CASE WHEN exclude_global THEN '{}' ELSE ARRAY[''] END || CASE WHEN for_user <> '' THEN ARRAY[for_user] END;

    WITH RECURSIVE spoken AS (
        SELECT min(document.language) AS language FROM documents AS document WHERE document.tenant_id = tenant
        UNION ALL
        SELECT (
            SELECT min(document.language)
            FROM documents AS document
            WHERE document.tenant_id = tenant AND document.language > spoken.language
        )
        FROM spoken
        WHERE spoken.language IS NOT NULL
    ),
    languages AS MATERIALIZED (
        SELECT array_agg(spoken.language) AS names FROM spoken WHERE spoken.language IS NOT NULL
    )
    SELECT
        query_condition(languages.names, wanted),
        ARRAY(SELECT quote_literal(word)::tsquery FROM unnest(query_lexemes(languages.names, wanted)) AS word)
    INTO condition, words
    FROM languages;

    -- By meaning: everything in scope, nearest first.
    IF query_embedding IS NOT NULL THEN
        SELECT array_agg(near.id ORDER BY near.distance, near.id) INTO near_ids
        FROM (
          SELECT scope.id, scope.distance
          FROM (
            SELECT
                chunk.id, chunk.embedding_half <=> query_embedding::halfvec(384) AS distance,
                row_number() OVER (
                    PARTITION BY chunk.document_id ORDER BY chunk.embedding_half <=> query_embedding::halfvec(384)
                ) AS place_in_document
            FROM document_chunks AS chunk
            WHERE chunk.tenant_id = tenant
                AND (whole_tenant OR chunk.visible_to = ANY (readers))
                AND (NOT whole_tenant OR NOT exclude_global OR chunk.visible_to <> '')
                AND (model IS NULL OR chunk.model_id = model)
                AND (cardinality(document_types) = 0 OR chunk.document_type = ANY (document_types))
                AND (cardinality(document_ids) = 0 OR chunk.document_id = ANY (document_ids))
                AND (occurred_from IS NULL OR chunk.occurred_at >= occurred_from)
                AND (occurred_until IS NULL OR chunk.occurred_at < occurred_until)
                AND (metadata_contains = '{}' OR chunk.metadata @> metadata_contains)
                AND (condition IS NULL OR chunk.lexemes @@ condition)
                AND (
                    phrases IS NULL
                    OR holds_phrases(chunk_words(chunk.title, chunk.heading_path, chunk.content), phrases)
                )
          ) AS scope
          WHERE NOT by_document OR scope.place_in_document <= chunks_of_document
          ORDER BY scope.distance, scope.id
          LIMIT pool
        ) AS near;
    END IF;

    -- What the words weigh. The place of the last of the sample among all possible ids tells how many chunks there are
    -- (Bar-Yossef et al., "Counting distinct elements in a data stream", 2002: (k - 1) / u for the k-th smallest).
    IF cardinality(words) > 0 THEN
        WITH sample AS MATERIALIZED (
            SELECT chunk.id, chunk.lexemes
            FROM document_chunks AS chunk
            WHERE chunk.tenant_id = tenant
            ORDER BY chunk.id
            LIMIT sample_size
        ),
        seen AS MATERIALIZED (
            SELECT
                count(*) AS chunks, avg(length(sample.lexemes)) AS length,
                (('x' || left(max(sample.id::text), 8))::bit(32)::bigint + 1) / 4294967296.0 AS place
            FROM sample
        ),
        counted AS MATERIALIZED (
            SELECT
                word.position, word.query,
                (SELECT count(*) FROM sample WHERE sample.lexemes @@ word.query) AS frequency
            FROM unnest(words) WITH ORDINALITY AS word (query, position)
        ),
        total AS MATERIALIZED (
            SELECT
                seen.chunks, seen.length,
                CASE WHEN seen.chunks < sample_size THEN seen.chunks
                    ELSE greatest(seen.chunks, (seen.chunks - 1) / seen.place) END AS estimate
            FROM seen
        ),
        ranked AS (
            SELECT
                counted.position, counted.query, counted.frequency * total.estimate / total.chunks AS containing,
                row_number() OVER rarest = 1
                OR sum(greatest(counted.frequency, 0.5)) OVER rarest * total.estimate / total.chunks
                <= lexical_budget AS generates
            FROM counted, total
            WHERE total.chunks > 0
            WINDOW rarest AS (ORDER BY counted.frequency, counted.position)
        )
        SELECT
            max(total.estimate), max(total.length), array_agg(ranked.query ORDER BY ranked.position),
            array_agg(ranked.containing ORDER BY ranked.position),
            array_agg(ranked.generates ORDER BY ranked.position),
            string_agg(ranked.query::text, ' | ') FILTER (WHERE ranked.generates)::tsquery
        INTO chunk_count, average_length, words, frequencies, generates, generating
        FROM ranked, total;
        IF condition IS NOT NULL THEN
            generating := generating && condition;
        END IF;
    END IF;

    RETURN QUERY
    WITH near AS MATERIALIZED (
        SELECT near.id, near.place::integer AS place FROM unnest(near_ids) WITH ORDINALITY AS near (id, place)
    ),
    generated AS MATERIALIZED (
        SELECT
            chunk.id, chunk.lexemes, length(chunk.lexemes) AS length,
            (whole_tenant OR chunk.visible_to = ANY (readers))
            AND (NOT whole_tenant OR NOT exclude_global OR chunk.visible_to <> '')
            AND (cardinality(document_types) = 0 OR chunk.document_type = ANY (document_types))
            AND (cardinality(document_ids) = 0 OR chunk.document_id = ANY (document_ids))
            AND (occurred_from IS NULL OR chunk.occurred_at >= occurred_from)
            AND (occurred_until IS NULL OR chunk.occurred_at < occurred_until)
            AND (metadata_contains = '{}' OR chunk.metadata @> metadata_contains)
            AND (
                phrases IS NULL
                OR holds_phrases(chunk_words(chunk.title, chunk.heading_path, chunk.content), phrases)
            ) AS matches
        FROM document_chunks AS chunk
        WHERE chunk.tenant_id = tenant AND chunk.lexemes @@ generating
    ),
    texts AS (
        SELECT generated.id, generated.lexemes, generated.length, generated.matches, true AS generated FROM generated
        UNION ALL
        SELECT near.id, chunk.lexemes, length(chunk.lexemes), true, false
        FROM near
        CROSS JOIN LATERAL (
            SELECT stored.lexemes
            FROM document_chunks AS stored
            WHERE stored.tenant_id = tenant AND stored.id = near.id
            OFFSET 0
        ) AS chunk
        WHERE NOT EXISTS (SELECT FROM generated WHERE generated.id = near.id)
    ),
    occurrence AS MATERIALIZED (
        SELECT texts.id, texts.length, texts.matches, texts.generated, word.place AS word, counted.frequency
        FROM texts
        CROSS JOIN unnest(words) WITH ORDINALITY AS word (query, place)
        CROSS JOIN LATERAL (SELECT term_frequency(texts.lexemes, word.query) AS frequency OFFSET 0) AS counted
        WHERE counted.frequency > 0
    ),
    -- A word that generates candidates has all of its chunks among them, and is counted there.
    word AS MATERIALIZED (
        SELECT
            word.place,
            inverse_document_frequency(
                chunk_count,
                least(
                    chunk_count,
                    CASE WHEN word.generates AND condition IS NULL THEN COALESCE(counted.chunks, 0) ELSE word.estimate END
                )
            ) AS weight
        FROM unnest(frequencies, generates) WITH ORDINALITY AS word (estimate, generates, place)
        LEFT JOIN (
            SELECT occurrence.word, count(*) AS chunks FROM occurrence WHERE occurrence.generated GROUP BY occurrence.word
        ) AS counted ON counted.word = word.place
    ),
    lexical AS MATERIALIZED (
        SELECT matching.*, row_number() OVER (ORDER BY matching.score DESC, matching.id)::integer AS place
        FROM (
            SELECT
                occurrence.id,
                sum(bm25(word.weight, occurrence.frequency, occurrence.length, average_length)) AS score
            FROM occurrence
            JOIN word ON word.place = occurrence.word
            WHERE occurrence.matches
            GROUP BY occurrence.id
        ) AS matching
    ),
    chosen AS (
        SELECT near.id FROM near
        UNION
        SELECT lexical.id FROM lexical WHERE lexical.place <= pool
    ),
    scored AS (
        SELECT
            chosen.id, chunk.document_id, chunk.content, COALESCE(chunk.similarity, 0) AS similarity,
            COALESCE(near.place, 0) AS vector_rank, COALESCE(lexical.score, 0) AS bm25_score,
            CASE WHEN lexical.place <= pool THEN lexical.place ELSE 0 END AS lexical_rank,
            COALESCE(
                greatest(chunk.similarity, 0) / NULLIF(max(greatest(chunk.similarity, 0)) OVER (), 0), 0
            ) AS vector_score,
            COALESCE(lexical.score / NULLIF(max(lexical.score) OVER (), 0), 0) AS lexical_score
        FROM chosen
        CROSS JOIN LATERAL (
            SELECT
                stored.document_id, stored.content,
                CASE WHEN model IS NULL OR stored.model_id = model THEN 1 - (stored.embedding <=> query_embedding) END
                AS similarity
            FROM document_chunks AS stored
            WHERE stored.tenant_id = tenant AND stored.id = chosen.id
            OFFSET 0
        ) AS chunk
        LEFT JOIN near ON near.id = chosen.id
        LEFT JOIN lexical ON lexical.id = chosen.id
    ),
    fused AS (
        SELECT scored.*, vector_weight * scored.vector_score + lexical_weight * scored.lexical_score AS score
        FROM scored
    ),
    placed AS (
        SELECT
            fused.*, max(fused.score) OVER (PARTITION BY fused.document_id) AS document_score
        FROM fused
    ),
    ordered AS (
        SELECT placed.*, dense_rank() OVER (ORDER BY placed.document_score DESC, placed.document_id) AS document_place
        FROM placed
    )
    SELECT
        ordered.id, ordered.document_id, ordered.content, ordered.score, ordered.similarity, ordered.vector_score,
        ordered.vector_rank, ordered.bm25_score, ordered.lexical_score, COALESCE(ordered.lexical_rank, 0)
    FROM ordered
    WHERE NOT by_document OR ordered.document_place <= top_k
    ORDER BY
        CASE WHEN by_document THEN ordered.document_place END, ordered.score DESC, ordered.similarity DESC, ordered.id
    LIMIT CASE WHEN by_document THEN NULL ELSE top_k END;
END
$$;
