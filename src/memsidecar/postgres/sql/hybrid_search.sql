-- name: hybrid_search
-- Finds passages and reads them with their documents, best first. $1 query, $2 vector, $3 how many, $4 user (NULL none),
-- $5 whole tenant, $6 leave global ones out, $7 types ({} all), $8 documents ({} all), $9 metadata they must contain,
-- $10 from, $11 until, $12 model, $13 vector weight, $14 lexical weight, $15 candidates, $16 by document, $17 tenant.
SELECT
    found.score, found.similarity, found.vector_score, found.vector_rank, found.bm25_score, found.lexical_score,
    found.lexical_rank,
    chunk.id AS chunk_id, chunk.chunk_index, chunk.content AS chunk_content, chunk.start_char, chunk.end_char,
    chunk.heading_path, chunk.page_number,
    document.id, document.document_key, document.user_id, document.is_global, document.document_type, document.title,
    document.metadata, document.language, document.occurred_at, document.created_at, document.updated_at,
    document.chunk_count, document.content_sha256, document.content_characters, '' AS content
FROM hybrid_search(
    $1::text, $2::vector, $3::integer, $4::text, $5::boolean, $6::boolean, $7::text[], $8::uuid[], $9::jsonb,
    $10::timestamptz, $11::timestamptz, $12::smallint, $13::double precision, $14::double precision, $15::integer,
    $16::boolean
) WITH ORDINALITY AS found
CROSS JOIN LATERAL (
    SELECT * FROM document_chunks AS stored WHERE stored.tenant_id = $17 AND stored.id = found.chunk_id OFFSET 0
) AS chunk
CROSS JOIN LATERAL (
    SELECT * FROM documents AS stored WHERE stored.tenant_id = $17 AND stored.id = chunk.document_id OFFSET 0
) AS document
ORDER BY found.ordinality;

-- name: matching_words
-- Gives the words of texts that match a query, as they are written there. $1 query, $2 languages and $3 texts.
SELECT text.position, written.word
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS text (language, content, position)
CROSS JOIN LATERAL (
    SELECT string_agg(quote_literal(lexeme), ' | ')::tsquery AS any_word
    FROM unnest(query_lexemes(ARRAY[text.language], $1)) AS lexeme
    OFFSET 0
) AS wanted
CROSS JOIN LATERAL (
    SELECT DISTINCT found[1] AS word
    FROM regexp_matches(text.content, '[[:alnum:]]+(?:[-_.:/@#''’]+[[:alnum:]]+)*', 'g') AS found
) AS written
WHERE text_lexemes(text.language, written.word) @@ wanted.any_word;

-- name: neighbouring_chunks
-- Reads the chunks around hits. $1 tenant, $2 documents and $3 indices of the hits, $4 how many each way.
SELECT hit.position, chunk.id, chunk.document_id, chunk.chunk_index, chunk.content, chunk.start_char, chunk.end_char,
    chunk.heading_path, chunk.page_number, chunk.metadata
FROM unnest($2::uuid[], $3::integer[]) WITH ORDINALITY AS hit (document_id, chunk_index, position)
JOIN document_chunks AS chunk
    ON chunk.tenant_id = $1 AND chunk.document_id = hit.document_id
    AND chunk.chunk_index BETWEEN hit.chunk_index - $4 AND hit.chunk_index + $4
    AND chunk.chunk_index <> hit.chunk_index
ORDER BY hit.position, chunk.chunk_index;
