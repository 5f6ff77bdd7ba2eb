-- name: insert_job
-- Makes a job whose documents have still to arrive. $1 tenant, $2 job, $3 who asked.
INSERT INTO ingestion_jobs (tenant_id, id, requested_by, receiving, lease_expires_at)
VALUES ($1, $2, $3, true, clock_timestamp() + interval '10 minutes');

-- name: add_job_documents
-- Stores documents of a job that is still receiving, after those it has; one that came with an error has failed. Of many
-- errors the first 1,000 are kept. $1 tenant, $2 job, then one array per column; error is '' for none.
WITH given AS (
    SELECT *
    FROM unnest(
        $3::text[], $4::text[], $5::boolean[], $6::text[], $7::text[], $8::jsonb[], $9::text[], $10::timestamptz[],
        $11::bytea[], $12::bytea[], $13::bytea[], $14::text[]
    ) WITH ORDINALITY AS given (
        document_key, user_id, is_global, document_type, title, metadata, language, occurred_at, raw, raw_sha256,
        recipe_sha256, error, place
    )
),
job AS (
    UPDATE ingestion_jobs
    SET total = total + cardinality($3::text[]),
        failed = failed + (SELECT count(*) FROM given WHERE error <> ''),
        errors = CASE
            WHEN jsonb_array_length(errors) >= 1000 THEN errors
            ELSE errors || (
                SELECT COALESCE(
                    jsonb_agg(
                        jsonb_build_object('document', document_key, 'error', error, 'timestamp', clock_timestamp())
                        ORDER BY place
                    ),
                    '[]'
                )
                FROM given
                WHERE error <> ''
            )
        END,
        lease_expires_at = clock_timestamp() + interval '10 minutes'
    WHERE tenant_id = $1 AND id = $2 AND receiving
    RETURNING total - cardinality($3::text[]) AS earlier
)
INSERT INTO ingestion_job_documents (
    tenant_id, job_id, position, document_key, user_id, is_global, document_type, title, metadata, language, occurred_at,
    raw, raw_sha256, recipe_sha256, status
)
SELECT
    $1::uuid, $2::uuid, job.earlier + given.place - 1, given.document_key, given.user_id, given.is_global,
    given.document_type, given.title, given.metadata, given.language, given.occurred_at,
    CASE WHEN given.error = '' THEN given.raw END, given.raw_sha256, given.recipe_sha256,
    CASE WHEN given.error = '' THEN 'queued' ELSE 'failed' END
FROM job, given
RETURNING position;

-- name: close_job
-- Makes a receiving job one that is worked on, unless all of its documents have failed already. $1 tenant, $2 job,
-- $3 request id (NULL none).
UPDATE ingestion_jobs
SET receiving = false, lease_expires_at = NULL, request_id = $3, created_at = clock_timestamp(),
    status = CASE WHEN failed = total THEN 'failed' ELSE status END,
    finished_at = CASE WHEN failed = total THEN clock_timestamp() END
WHERE tenant_id = $1 AND id = $2 AND receiving
RETURNING id;

-- name: drop_job
-- Forgets a receiving job with its documents. $1 tenant, $2 job.
DELETE FROM ingestion_jobs WHERE tenant_id = $1 AND id = $2 AND receiving;

-- name: lock_request
-- Lets calls with the same request id go one after the other until the transaction ends. $1 tenant, $2 request id.
SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text || ' ' || $2::text, 0));

-- name: find_job_by_request
-- Finds the job that a request id made. $1 tenant, $2 request id.
SELECT id FROM ingestion_jobs WHERE tenant_id = $1 AND request_id = $2 AND NOT receiving;

-- name: read_jobs
-- Reads jobs as callers see them, newest first. $1 tenant, $2 job (NULL all), $3 statuses ({} all), $4 and $5 time and
-- id of the last one read before (NULL at the start), $6 how many.
SELECT
    job.id, job.status, job.total, job.processed, job.failed, job.unchanged, job.progress_percent, job.errors,
    job.cancelled, job.created_at, job.started_at, job.finished_at,
    ARRAY(
        SELECT done.document_id
        FROM ingestion_job_documents AS done
        WHERE done.tenant_id = $1 AND done.job_id = job.id AND done.document_id IS NOT NULL
        ORDER BY done.position
        LIMIT 1000
    ) AS document_ids
FROM ingestion_jobs AS job
WHERE job.tenant_id = $1
    AND NOT job.receiving
    AND ($2::uuid IS NULL OR job.id = $2)
    AND (cardinality($3::text[]) = 0 OR job.status = ANY ($3))
    AND ($4::timestamptz IS NULL OR (job.created_at, job.id) < ($4, $5::uuid))
ORDER BY job.created_at DESC, job.id DESC
LIMIT $6;

-- name: cancel_job
-- Ends a job that has not ended: what is done stays, the rest is let go. $1 tenant, $2 job.
WITH job AS (
    UPDATE ingestion_jobs
    SET cancelled = true, finished_at = clock_timestamp(), lease_owner = NULL, lease_expires_at = NULL,
        status = CASE WHEN processed > 0 THEN 'partial' ELSE 'failed' END
    WHERE tenant_id = $1 AND id = $2 AND NOT receiving AND status IN ('queued', 'processing')
    RETURNING id
)
UPDATE ingestion_job_documents AS document
SET status = 'cancelled', raw = NULL
FROM job
WHERE document.tenant_id = $1 AND document.job_id = job.id AND document.status = 'queued';

-- name: claim_job
-- Takes a job nobody works on. $1 worker, $2 lease in seconds.
SELECT tenant_id, job_id FROM claim_ingestion_job($1, $2);

-- name: drop_abandoned_jobs
-- Forgets jobs whose documents stopped arriving.
SELECT drop_abandoned_ingestion_jobs();

-- name: backlog
-- Tells how much work there is over all tenants.
SELECT open_jobs, oldest_seconds FROM ingestion_backlog();

-- name: renew_job
-- Holds a job for longer. $1 tenant, $2 job, $3 worker, $4 lease in seconds.
UPDATE ingestion_jobs
SET lease_expires_at = clock_timestamp() + make_interval(secs => $4::integer)
WHERE tenant_id = $1 AND id = $2 AND lease_owner = $3 AND status = 'processing'
RETURNING id;

-- name: release_job
-- Gives a held job back. $1 tenant, $2 job, $3 worker.
UPDATE ingestion_jobs
SET lease_owner = NULL, lease_expires_at = NULL
WHERE tenant_id = $1 AND id = $2 AND lease_owner = $3;

-- name: job_assignments
-- Gives documents of a job that are not done, in order. $1 tenant, $2 job, $3 how many.
SELECT position, octet_length(raw) AS size
FROM ingestion_job_documents
WHERE tenant_id = $1 AND job_id = $2 AND status = 'queued'
ORDER BY position
LIMIT $3;

-- name: begin_document
-- Counts an attempt at a document that is not done and gives what is known of it. $1 tenant, $2 job, $3 position.
UPDATE ingestion_job_documents
SET attempts = attempts + 1
WHERE tenant_id = $1 AND job_id = $2 AND position = $3 AND status = 'queued'
RETURNING document_key, document_type, title, attempts;

-- name: document_bytes
-- Reads the bytes of a document of a job. $1 tenant, $2 job, $3 position.
SELECT raw FROM ingestion_job_documents WHERE tenant_id = $1 AND job_id = $2 AND position = $3;

-- name: lock_held_job
-- Makes sure that a job is held until the transaction ends. $1 tenant, $2 job, $3 worker.
SELECT id
FROM ingestion_jobs
WHERE tenant_id = $1 AND id = $2 AND lease_owner = $3 AND status = 'processing'
FOR UPDATE;

-- name: lock_queued_document
-- Makes sure that a document of a job is not done, until the transaction ends. $1 tenant, $2 job, $3 position.
SELECT 1
FROM ingestion_job_documents
WHERE tenant_id = $1 AND job_id = $2 AND position = $3 AND status = 'queued'
FOR UPDATE;

-- name: keep_document
-- Brings a stored document of the same recipe, or a newer one, up to date without touching its text: what was sent
-- beside the content replaces what is stored, unless a later submission did so already. Gives no row when the content
-- has to be taken in. $1 tenant, $2 job, $3 position.
WITH sent AS (
    SELECT given.*, job.created_at AS submitted_at
    FROM ingestion_job_documents AS given
    JOIN ingestion_jobs AS job ON job.tenant_id = given.tenant_id AND job.id = given.job_id
    WHERE given.tenant_id = $1 AND given.job_id = $2 AND given.position = $3
),
stored AS (
    SELECT document.id, (document.submitted_at, document.job_id) >= (sent.submitted_at, sent.job_id) AS later
    FROM sent
    JOIN documents AS document
        ON document.tenant_id = $1 AND document.user_id = sent.user_id AND document.document_key = sent.document_key
    WHERE document.recipe_sha256 = sent.recipe_sha256
        OR (document.submitted_at, document.job_id) >= (sent.submitted_at, sent.job_id)
    FOR UPDATE OF document
),
kept AS (
    UPDATE documents AS document
    SET is_global = sent.is_global, metadata = sent.metadata, language = sent.language,
        occurred_at = COALESCE(sent.occurred_at, document.occurred_at), submitted_at = sent.submitted_at,
        job_id = sent.job_id
    FROM sent, stored
    WHERE document.tenant_id = $1 AND document.id = stored.id AND NOT stored.later
    RETURNING document.id, document.is_global, document.metadata, document.language, document.occurred_at
),
chunks AS (
    UPDATE document_chunks AS chunk
    SET is_global = kept.is_global, metadata = kept.metadata, language = kept.language, occurred_at = kept.occurred_at
    FROM kept
    WHERE chunk.tenant_id = $1 AND chunk.document_id = kept.id
        AND (chunk.is_global, chunk.metadata, chunk.language, chunk.occurred_at)
        IS DISTINCT FROM (kept.is_global, kept.metadata, kept.language, kept.occurred_at)
)
SELECT id FROM stored;

-- name: replace_document
-- Stores a document in place of the one of the same owner and key, which loses its chunks, and gives its id; no row when
-- a later submission is stored already. $1 tenant, $2 job, $3 position, $4 id for a new document, $5 type, $6 title,
-- $7 content, $8 chunks.
WITH stored AS (
    INSERT INTO documents AS document (
        tenant_id, id, document_key, user_id, is_global, document_type, title, content, content_sha256, recipe_sha256,
        metadata, language, chunk_count, job_id, submitted_at, occurred_at
    )
    SELECT
        $1::uuid, $4::uuid, sent.document_key, sent.user_id, sent.is_global, $5::text, $6::text, $7::text, sent.raw_sha256,
        sent.recipe_sha256, sent.metadata, sent.language, $8::integer, sent.job_id, job.created_at,
        COALESCE(sent.occurred_at, job.created_at)
    FROM ingestion_job_documents AS sent
    JOIN ingestion_jobs AS job ON job.tenant_id = sent.tenant_id AND job.id = sent.job_id
    WHERE sent.tenant_id = $1 AND sent.job_id = $2 AND sent.position = $3
    ON CONFLICT (tenant_id, user_id, document_key) DO UPDATE
    SET is_global = excluded.is_global, document_type = excluded.document_type, title = excluded.title,
        content = excluded.content, content_sha256 = excluded.content_sha256, recipe_sha256 = excluded.recipe_sha256,
        metadata = excluded.metadata, language = excluded.language, chunk_count = excluded.chunk_count,
        job_id = excluded.job_id, submitted_at = excluded.submitted_at, occurred_at = excluded.occurred_at,
        updated_at = clock_timestamp()
    WHERE (document.submitted_at, document.job_id) < (excluded.submitted_at, excluded.job_id)
    RETURNING document.id
)
SELECT id FROM stored;

-- name: delete_chunks
-- Deletes the chunks of a document that is about to get others. $1 tenant, $2 document.
DELETE FROM document_chunks WHERE tenant_id = $1 AND document_id = $2;

-- name: insert_chunks
-- Stores chunks; what a search filters by comes from the document. $1 tenant, $2 document, $3 model, $4 index of the
-- first, then one array per column.
INSERT INTO document_chunks (
    tenant_id, document_id, model_id, id, chunk_index, user_id, is_global, document_type, title, content, start_char,
    end_char, heading_path, page_number, metadata, language, token_count, occurred_at, embedding
)
SELECT
    $1::uuid, document.id, $3::smallint, given.id, $4::integer + given.position - 1, document.user_id, document.is_global,
    document.document_type, document.title, given.content, given.start_char, given.end_char,
    ARRAY(SELECT jsonb_array_elements_text(given.heading_path)), given.page_number, document.metadata, document.language,
    given.token_count, document.occurred_at, given.embedding
FROM documents AS document
CROSS JOIN unnest(
    $5::uuid[], $6::text[], $7::integer[], $8::integer[], $9::jsonb[], $10::integer[], $11::integer[], $12::vector[]
) WITH ORDINALITY AS given (
    id, content, start_char, end_char, heading_path, page_number, token_count, embedding, position
)
WHERE document.tenant_id = $1 AND document.id = $2;

-- name: finish_document
-- Records what became of a document of a job and counts it; the last one ends the job. Of many errors the first 1,000
-- are kept. $1 tenant, $2 job, $3 position, $4 status, $5 document (NULL none), $6 error (NULL none).
WITH finished AS (
    UPDATE ingestion_job_documents
    SET status = $4::text, document_id = $5::uuid, raw = NULL
    WHERE tenant_id = $1 AND job_id = $2 AND position = $3
    RETURNING document_key
),
counted AS (
    SELECT
        job.id,
        job.processed + ($4 <> 'failed')::integer AS processed,
        job.failed + ($4 = 'failed')::integer AS failed,
        job.unchanged + ($4 = 'unchanged')::integer AS unchanged,
        CASE
            WHEN $6::text IS NULL OR jsonb_array_length(job.errors) >= 1000 THEN job.errors
            ELSE job.errors || jsonb_build_object(
                'document', finished.document_key, 'error', $6, 'timestamp', clock_timestamp()
            )
        END AS errors
    FROM ingestion_jobs AS job, finished
    WHERE job.tenant_id = $1 AND job.id = $2
)
UPDATE ingestion_jobs AS job
SET processed = counted.processed, failed = counted.failed, unchanged = counted.unchanged, errors = counted.errors,
    status = CASE
        WHEN counted.processed + counted.failed < job.total THEN job.status
        WHEN counted.failed = 0 THEN 'completed'
        WHEN counted.processed = 0 THEN 'failed'
        ELSE 'partial'
    END,
    finished_at = CASE WHEN counted.processed + counted.failed = job.total THEN clock_timestamp() END
FROM counted
WHERE job.tenant_id = $1 AND job.id = counted.id;
