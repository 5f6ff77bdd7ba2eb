-- name: count_turns
-- Counts the rows that a tenant's quota of turns limits. $1 tenant.
SELECT count(*) FROM conversation_embeddings WHERE tenant_id = $1 AND action <> 'deleted';

-- name: sum_document_bytes
-- Adds up the documents of a tenant and what waits to become some, in bytes. Lengths are read without the contents.
-- $1 tenant.
SELECT
    COALESCE((SELECT sum(octet_length(content)) FROM documents WHERE tenant_id = $1), 0)
    + COALESCE((SELECT sum(octet_length(raw)) FROM ingestion_job_documents WHERE tenant_id = $1 AND raw IS NOT NULL), 0);
