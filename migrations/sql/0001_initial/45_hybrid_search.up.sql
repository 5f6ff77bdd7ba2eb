-- Finds passages by meaning and by word at once; usable by hand as the app role with a tenant set, for example
--   SELECT content, score FROM hybrid_search('refund "travel costs" -hotel', NULL, for_user => 'U42');
-- query: words in any number match; "exact words" must stand together; -word and -"exact words" must not occur.
-- query_embedding: NULL searches by words alone. Own documents of for_user and global ones are seen; whole_tenant shows
-- all. Gives min(top_k, matching chunks) rows, best first; ranks start at 1, and 0 means that the leg did not find it.
CREATE FUNCTION hybrid_search(
    query text,
    query_embedding vector(384),
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
    vector_weight double precision DEFAULT 0.5,
    lexical_weight double precision DEFAULT 0.5,
    candidates integer DEFAULT 200
) RETURNS TABLE (
    chunk_id uuid, document_id uuid, content text, score double precision, similarity double precision,
    vector_score double precision, vector_rank integer, lexical_raw double precision, lexical_score double precision,
    lexical_rank integer
)
    LANGUAGE sql STABLE
    AS $$
    WITH wanted AS (
        SELECT
            language.name AS language,
            (
                SELECT string_agg(quote_literal(word.lexeme), ' | ')::tsquery
                FROM unnest(text_lexemes(language.name, hybrid_search.query)) AS word
            ) AS words
        FROM (SELECT DISTINCT chunk.language AS name FROM document_chunks AS chunk
              WHERE chunk.tenant_id = current_tenant()) AS language
    ),
    visible AS (
        SELECT
            chunk.id, 1 - (chunk.embedding <=> hybrid_search.query_embedding) AS similarity,
            COALESCE(ts_rank(chunk.lexemes, wanted.words), 0) AS lexical
        FROM document_chunks AS chunk
        LEFT JOIN wanted ON wanted.language = chunk.language
        WHERE chunk.tenant_id = current_tenant()
            AND (hybrid_search.whole_tenant OR chunk.is_global OR chunk.user_id = hybrid_search.for_user)
            AND NOT (hybrid_search.exclude_global AND chunk.is_global)
            AND (cardinality(hybrid_search.document_types) = 0 OR chunk.document_type = ANY (hybrid_search.document_types))
            AND (cardinality(hybrid_search.document_ids) = 0 OR chunk.document_id = ANY (hybrid_search.document_ids))
            AND (hybrid_search.metadata_contains = '{}' OR chunk.metadata @> hybrid_search.metadata_contains)
            AND (hybrid_search.occurred_from IS NULL OR chunk.occurred_at >= hybrid_search.occurred_from)
            AND (hybrid_search.occurred_until IS NULL OR chunk.occurred_at < hybrid_search.occurred_until)
            AND (hybrid_search.model IS NULL OR chunk.model_id = hybrid_search.model)
    ),
    ranked AS (
        SELECT
            visible.*,
            rank() OVER (ORDER BY visible.similarity DESC NULLS LAST) AS vector_rank,
            CASE WHEN visible.lexical > 0 THEN rank() OVER (ORDER BY visible.lexical DESC) ELSE 0 END AS lexical_rank,
            COALESCE(visible.similarity / NULLIF(max(visible.similarity) OVER (), 0), 0) AS vector_score,
            COALESCE(visible.lexical / NULLIF(max(visible.lexical) OVER (), 0), 0) AS lexical_score
        FROM visible
    )
    SELECT
        ranked.id, chunk.document_id, chunk.content,
        hybrid_search.vector_weight * ranked.vector_score + hybrid_search.lexical_weight * ranked.lexical_score AS score,
        COALESCE(ranked.similarity, 0), ranked.vector_score, ranked.vector_rank::integer, ranked.lexical,
        ranked.lexical_score, ranked.lexical_rank::integer
    FROM ranked
    JOIN document_chunks AS chunk ON chunk.tenant_id = current_tenant() AND chunk.id = ranked.id
    ORDER BY score DESC, ranked.id
    LIMIT hybrid_search.top_k
    $$;
