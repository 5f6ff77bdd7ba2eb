-- name: get_document
-- Reads a document. $1 tenant, $2 document, $3 whether content is wanted.
SELECT
    id, document_key, user_id, is_global, document_type, title, metadata, language, occurred_at, created_at, updated_at,
    chunk_count, content_sha256, content_characters, CASE WHEN $3::boolean THEN content ELSE '' END AS content
FROM documents
WHERE tenant_id = $1 AND id = $2;

-- name: document_chunks
-- Reads the chunks of a document in order. $1 tenant, $2 document.
SELECT id, document_id, chunk_index, content, start_char, end_char, heading_path, page_number, metadata
FROM document_chunks
WHERE tenant_id = $1 AND document_id = $2
ORDER BY chunk_index;

-- name: list_documents
-- Reads documents without content, the latest taken in first. $1 tenant, $2 user (NULL none), $3 whole tenant,
-- $4 leave global ones out, $5 types ({} all), $6 documents ({} all), $7 metadata they must contain, $8 from, $9 until,
-- $10 and $11 time and id of the last one read before (NULL at the start), $12 how many.
SELECT
    id, document_key, user_id, is_global, document_type, title, metadata, language, occurred_at, created_at, updated_at,
    chunk_count, content_sha256, content_characters, '' AS content
FROM documents
WHERE tenant_id = $1
    AND ($3::boolean OR is_global OR user_id = $2::text)
    AND NOT ($4::boolean AND is_global)
    AND (cardinality($5::text[]) = 0 OR document_type = ANY ($5))
    AND (cardinality($6::uuid[]) = 0 OR id = ANY ($6))
    AND ($7::jsonb = '{}' OR metadata @> $7)
    AND ($8::timestamptz IS NULL OR occurred_at >= $8)
    AND ($9::timestamptz IS NULL OR occurred_at < $9)
    AND ($10::timestamptz IS NULL OR (created_at, id) < ($10, $11::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $12;

-- name: delete_document
-- Deletes a document; its chunks go with it. $1 tenant, $2 document.
DELETE FROM documents
WHERE tenant_id = $1 AND id = $2
RETURNING chunk_count;
