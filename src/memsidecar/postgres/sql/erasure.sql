-- name: make_key
-- Makes the tenant's key unless it has one. $1 tenant, $2 a new key.
INSERT INTO digest_keys (tenant_id, key) VALUES ($1, $2) ON CONFLICT (tenant_id) DO NOTHING;

-- name: read_key
-- Reads the tenant's key. $1 tenant.
SELECT key FROM digest_keys WHERE tenant_id = $1;

-- name: read_tenant_name
-- Reads the name of a tenant. $1 tenant.
SELECT name FROM tenants WHERE id = $1;

-- name: known_erasure
-- Finds the erasure a request repeats: the one of the same request id, else one of the same subject that has not ended;
-- and for a tenant, which is erased once, the one there is. $1 tenant, $2 kind, $3 digest of the subject (NULL for any),
-- $4 digest of the request id (NULL for none).
SELECT
    id, tenant_id, kind, status, subject_digest, requested_by, reason, requested_at, completed_at, vacuumed_at, erased,
    remaining_rows, error
FROM erasures
WHERE tenant_id = $1
    AND (
        request_digest = $4
        OR (kind = $2 AND subject_digest = $3 AND status <> 'completed')
        OR (kind = $2 AND $3::text IS NULL)
    )
ORDER BY (request_digest = $4) DESC NULLS LAST
LIMIT 1;

-- name: request_erasure
-- Records what is to be erased. $1 tenant, $2 id, $3 kind, $4 subject, $5 and $6 digests of subject and request id,
-- $7 who asks, $8 why.
INSERT INTO erasures (tenant_id, id, kind, subject, subject_digest, request_digest, requested_by, reason)
VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7, $8)
RETURNING
    id, tenant_id, kind, status, subject_digest, requested_by, reason, requested_at, completed_at, vacuumed_at, erased,
    remaining_rows, error;

-- name: resume_erasure
-- Lets an erasure that failed go on. $1 tenant, $2 id.
UPDATE erasures
SET status = 'running', error = '', lease_owner = NULL, lease_expires_at = NULL
WHERE tenant_id = $1 AND id = $2 AND status = 'failed'
RETURNING
    id, tenant_id, kind, status, subject_digest, requested_by, reason, requested_at, completed_at, vacuumed_at, erased,
    remaining_rows, error;

-- name: find_erasure
-- Reads an erasure. $1 id, $2 tenant, $3 whether any tenant will do.
SELECT * FROM find_erasure($1, $2, $3);

-- name: claim_erasure
-- Takes an erasure nobody works on. $1 worker, $2 lease in seconds.
SELECT tenant_id, erasure_id FROM claim_erasure($1, $2);

-- name: read_subject
-- Reads what a held erasure is about. $1 tenant, $2 id, $3 worker.
SELECT kind, subject, subject_digest, requested_by
FROM erasures
WHERE tenant_id = $1 AND id = $2 AND lease_owner = $3 AND status = 'running';

-- name: hold_erasure
-- Holds an erasure for longer and locks it until the transaction ends. No row when another worker has it.
-- $1 tenant, $2 id, $3 worker, $4 lease in seconds.
UPDATE erasures
SET lease_expires_at = clock_timestamp() + make_interval(secs => $4::integer)
WHERE tenant_id = $1 AND id = $2 AND lease_owner = $3 AND status = 'running'
RETURNING erased;

-- name: count_erased
-- Writes down rows erased so far, by table. $1 tenant, $2 id, $3 counts.
UPDATE erasures SET erased = $3::jsonb WHERE tenant_id = $1 AND id = $2;

-- name: complete_erasure
-- Ends an erasure and forgets its subject. $1 tenant, $2 id.
UPDATE erasures
SET status = 'completed', subject = NULL, completed_at = clock_timestamp(), remaining_rows = 0, error = '',
    lease_owner = NULL, lease_expires_at = NULL
WHERE tenant_id = $1 AND id = $2
RETURNING erased;

-- name: fail_erasure
-- Stops an erasure. $1 tenant, $2 id, $3 worker, $4 why, $5 rows that are left.
UPDATE erasures
SET status = 'failed', error = $4, remaining_rows = $5, lease_owner = NULL, lease_expires_at = NULL
WHERE tenant_id = $1 AND id = $2 AND lease_owner = $3;

-- name: turns_of_user
-- Finds rows of turns in a user's memory, and of turns the user spoke in the memory of others, with every change of
-- those. $1 tenant, $2 user, $3 how many at most.
WITH spoken AS (
    SELECT
        turn.id, turn.agent_id, turn.user_id, COALESCE(turn.target_source, turn.source) AS source,
        COALESCE(turn.target_event_id, turn.event_id) AS event_id
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1 AND turn.speaker_id = $2 AND turn.speaker_id <> '' AND turn.user_id <> turn.speaker_id
    LIMIT $3
)
SELECT found.id, found.agent_id, found.user_id
FROM (
    SELECT turn.id, turn.agent_id, turn.user_id
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1 AND turn.user_id = $2
    UNION
    SELECT spoken.id, spoken.agent_id, spoken.user_id FROM spoken
    UNION
    SELECT turn.id, turn.agent_id, turn.user_id
    FROM spoken
    JOIN conversation_embeddings AS turn
        ON turn.tenant_id = $1 AND turn.agent_id = spoken.agent_id AND turn.user_id = spoken.user_id
        AND turn.source = spoken.source AND turn.event_id = spoken.event_id
    UNION
    SELECT turn.id, turn.agent_id, turn.user_id
    FROM spoken
    JOIN conversation_embeddings AS turn
        ON turn.tenant_id = $1 AND turn.agent_id = spoken.agent_id AND turn.user_id = spoken.user_id
        AND turn.target_source = spoken.source AND turn.target_event_id = spoken.event_id
) AS found
LIMIT $3;

-- name: turns_of_conversation
-- Finds rows of turns of a conversation, with every change of those. $1 tenant, $2 conversation, $3 how many at most,
-- $4 agent (NULL all), $5 user (NULL all).
WITH said AS (
    SELECT
        turn.id, turn.agent_id, turn.user_id, COALESCE(turn.target_source, turn.source) AS source,
        COALESCE(turn.target_event_id, turn.event_id) AS event_id
    FROM conversation_embeddings AS turn
    WHERE turn.tenant_id = $1 AND turn.conversation_id = $2
        AND ($4::uuid IS NULL OR turn.agent_id = $4) AND ($5::text IS NULL OR turn.user_id = $5)
    LIMIT $3
)
SELECT found.id, found.agent_id, found.user_id
FROM (
    SELECT said.id, said.agent_id, said.user_id FROM said
    UNION
    SELECT turn.id, turn.agent_id, turn.user_id
    FROM said
    JOIN conversation_embeddings AS turn
        ON turn.tenant_id = $1 AND turn.agent_id = said.agent_id AND turn.user_id = said.user_id
        AND turn.source = said.source AND turn.event_id = said.event_id
    UNION
    SELECT turn.id, turn.agent_id, turn.user_id
    FROM said
    JOIN conversation_embeddings AS turn
        ON turn.tenant_id = $1 AND turn.agent_id = said.agent_id AND turn.user_id = said.user_id
        AND turn.target_source = said.source AND turn.target_event_id = said.event_id
) AS found;

-- name: turns_of_tenant
-- Finds rows of turns. $1 tenant, $2 how many at most.
SELECT id, agent_id, user_id FROM conversation_embeddings WHERE tenant_id = $1 LIMIT $2;

-- name: delete_turns
-- Deletes rows of turns. $1 tenant, $2 rows.
WITH superseded AS (
    DELETE FROM superseded_turns WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) RETURNING id
),
turn AS (
    DELETE FROM conversation_embeddings WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) RETURNING id
)
SELECT
    (SELECT count(*) FROM turn) AS conversation_embeddings, (SELECT count(*) FROM superseded) AS superseded_turns;

-- name: delete_speakers
-- Deletes the names of speakers of whom nothing is left, in a new statement after delete_turns and under the lock of the
-- users' turns: whoever speaks at this moment is seen. $1 tenant, then one array per column: $2 agents, $3 users.
WITH deleted AS (
    DELETE FROM turn_speakers AS speaker
    USING unnest($2::uuid[], $3::text[]) AS given (agent_id, user_id)
    WHERE speaker.tenant_id = $1 AND speaker.agent_id = given.agent_id AND speaker.user_id = given.user_id
        AND NOT EXISTS (
            SELECT FROM conversation_embeddings AS turn
            WHERE turn.tenant_id = $1 AND turn.agent_id = speaker.agent_id AND turn.user_id = speaker.user_id
                AND turn.role = speaker.role AND turn.speaker_name = speaker.speaker_name
        )
    RETURNING speaker.role
)
SELECT count(*) AS turn_speakers FROM deleted;

-- name: lock_jobs
-- Locks jobs that have documents of a user, in one order. $1 tenant, $2 user (NULL all).
SELECT job.id
FROM ingestion_jobs AS job
WHERE job.tenant_id = $1
    AND EXISTS (
        SELECT FROM ingestion_job_documents AS document
        WHERE document.tenant_id = $1 AND document.job_id = job.id AND ($2::text IS NULL OR document.user_id = $2)
    )
ORDER BY job.id
FOR UPDATE;

-- name: delete_job_documents
-- Deletes what jobs hold of a user's documents, and takes it out of the jobs' counts and errors; a job that has nothing
-- left to do ends. $1 tenant, $2 user (NULL all), $3 how many at most.
WITH doomed AS (
    SELECT document.job_id, document.position
    FROM ingestion_job_documents AS document
    WHERE document.tenant_id = $1 AND ($2::text IS NULL OR document.user_id = $2)
    LIMIT $3
),
deleted AS (
    DELETE FROM ingestion_job_documents AS document
    USING doomed
    WHERE document.tenant_id = $1 AND document.job_id = doomed.job_id AND document.position = doomed.position
    RETURNING document.job_id, document.document_key, document.status
),
counted AS (
    SELECT
        deleted.job_id, count(*) AS total,
        count(*) FILTER (WHERE deleted.status IN ('completed', 'unchanged')) AS processed,
        count(*) FILTER (WHERE deleted.status = 'unchanged') AS unchanged,
        count(*) FILTER (WHERE deleted.status = 'failed') AS failed,
        array_agg(deleted.document_key) AS keys
    FROM deleted
    GROUP BY deleted.job_id
),
corrected AS (
    UPDATE ingestion_jobs AS job
    SET total = GREATEST(0, job.total - counted.total), processed = GREATEST(0, job.processed - counted.processed),
        unchanged = GREATEST(0, job.unchanged - counted.unchanged), failed = GREATEST(0, job.failed - counted.failed),
        errors = (
            SELECT COALESCE(jsonb_agg(entry.error ORDER BY entry.position), '[]')
            FROM jsonb_array_elements(job.errors) WITH ORDINALITY AS entry (error, position)
            WHERE entry.error ->> 'document' <> ALL (counted.keys)
        )
    FROM counted
    WHERE job.tenant_id = $1 AND job.id = counted.job_id
)
SELECT count(*) AS ingestion_job_documents FROM deleted;

-- name: end_jobs
-- Ends jobs that an erasure left without anything to do. $1 tenant.
UPDATE ingestion_jobs
SET finished_at = clock_timestamp(), lease_owner = NULL, lease_expires_at = NULL,
    status = CASE WHEN failed = 0 THEN 'completed' WHEN processed = 0 THEN 'failed' ELSE 'partial' END
WHERE tenant_id = $1 AND NOT receiving AND status IN ('queued', 'processing') AND processed + failed >= total;

-- name: delete_empty_jobs
-- Deletes jobs that an erasure left without documents. $1 tenant.
WITH deleted AS (
    DELETE FROM ingestion_jobs AS job
    WHERE job.tenant_id = $1 AND NOT job.receiving AND job.total = 0
        AND NOT EXISTS (
            SELECT FROM ingestion_job_documents AS document
            WHERE document.tenant_id = $1 AND document.job_id = job.id
        )
    RETURNING job.id
)
SELECT count(*) AS ingestion_jobs FROM deleted;

-- name: delete_chunks
-- Deletes passages of a user's documents. $1 tenant, $2 user (NULL all), $3 how many at most.
WITH deleted AS (
    DELETE FROM document_chunks
    WHERE tenant_id = $1
        AND id = ANY (
            ARRAY(
                SELECT chunk.id FROM document_chunks AS chunk
                WHERE chunk.tenant_id = $1 AND ($2::text IS NULL OR chunk.user_id = $2) LIMIT $3
            )
        )
    RETURNING id
)
SELECT count(*) AS document_chunks FROM deleted;

-- name: delete_documents
-- Deletes a user's documents, and passages stored with them in between. $1 tenant, $2 user (NULL all), $3 how many at
-- most.
WITH doomed AS (
    SELECT document.id FROM documents AS document
    WHERE document.tenant_id = $1 AND ($2::text IS NULL OR document.user_id = $2) LIMIT $3
),
chunk AS (
    DELETE FROM document_chunks USING doomed
    WHERE document_chunks.tenant_id = $1 AND document_chunks.document_id = doomed.id
    RETURNING document_chunks.id
),
deleted AS (
    DELETE FROM documents USING doomed WHERE documents.tenant_id = $1 AND documents.id = doomed.id
    RETURNING documents.id
)
SELECT (SELECT count(*) FROM deleted) AS documents, (SELECT count(*) FROM chunk) AS document_chunks;

-- name: delete_memories
-- Deletes user memories with their history and archive. $1 tenant, $2 user (NULL all), $3 how many memories at most.
WITH doomed AS (
    SELECT memory.user_id, memory.agent_id FROM user_memories AS memory
    WHERE memory.tenant_id = $1 AND ($2::text IS NULL OR memory.user_id = $2) LIMIT $3
),
passage AS (
    DELETE FROM user_memory_archive AS archive USING doomed
    WHERE archive.tenant_id = $1 AND archive.user_id = doomed.user_id AND archive.agent_id = doomed.agent_id
    RETURNING archive.id
),
revision AS (
    DELETE FROM user_memory_revisions AS kept USING doomed
    WHERE kept.tenant_id = $1 AND kept.user_id = doomed.user_id AND kept.agent_id = doomed.agent_id
    RETURNING kept.revision
),
deleted AS (
    DELETE FROM user_memories AS memory USING doomed
    WHERE memory.tenant_id = $1 AND memory.user_id = doomed.user_id AND memory.agent_id = doomed.agent_id
    RETURNING memory.revision
)
SELECT
    (SELECT count(*) FROM deleted) AS user_memories, (SELECT count(*) FROM revision) AS user_memory_revisions,
    (SELECT count(*) FROM passage) AS user_memory_archive;

-- name: trail_head
-- Says how far the trail of a tenant is, before it goes. $1 tenant.
SELECT sequence, encode(digest, 'hex') AS digest FROM audit_events WHERE tenant_id = $1 ORDER BY sequence DESC LIMIT 1;

-- name: delete_tenant
-- Deletes what a tenant has beside its users' data, and the tenant itself; the receipt of this erasure stays. $1 tenant,
-- $2 the erasure.
WITH token AS (DELETE FROM api_tokens WHERE tenant_id = $1 RETURNING id),
job AS (DELETE FROM ingestion_jobs WHERE tenant_id = $1 RETURNING id),
receipt AS (DELETE FROM erasures WHERE tenant_id = $1 AND id <> $2 RETURNING id),
event AS (DELETE FROM audit_events WHERE tenant_id = $1 RETURNING sequence),
digest_key AS (DELETE FROM digest_keys WHERE tenant_id = $1 RETURNING tenant_id),
tenant AS (DELETE FROM tenants WHERE id = $1 RETURNING id)
SELECT
    (SELECT count(*) FROM token) AS api_tokens, (SELECT count(*) FROM job) AS ingestion_jobs,
    (SELECT count(*) FROM receipt) AS erasures, (SELECT count(*) FROM event) AS audit_events,
    (SELECT count(*) FROM digest_key) AS digest_keys, (SELECT count(*) FROM tenant) AS tenants;

-- name: rows_of_user
-- Counts what is left of a user. $1 tenant, $2 user.
SELECT
    (SELECT count(*) FROM conversation_embeddings WHERE tenant_id = $1 AND user_id = $2)
    + (
        SELECT count(*) FROM conversation_embeddings
        WHERE tenant_id = $1 AND speaker_id = $2 AND speaker_id <> '' AND user_id <> speaker_id
    )
    + (SELECT count(*) FROM superseded_turns WHERE tenant_id = $1 AND user_id = $2)
    + (SELECT count(*) FROM turn_speakers WHERE tenant_id = $1 AND user_id = $2)
    + (SELECT count(*) FROM user_memories WHERE tenant_id = $1 AND user_id = $2)
    + (SELECT count(*) FROM user_memory_revisions WHERE tenant_id = $1 AND user_id = $2)
    + (SELECT count(*) FROM user_memory_archive WHERE tenant_id = $1 AND user_id = $2)
    + (SELECT count(*) FROM document_chunks WHERE tenant_id = $1 AND user_id = $2)
    + (SELECT count(*) FROM documents WHERE tenant_id = $1 AND user_id = $2)
    + (SELECT count(*) FROM ingestion_job_documents WHERE tenant_id = $1 AND user_id = $2);

-- name: rows_of_conversation
-- Counts what is left of a conversation. $1 tenant, $2 conversation, $3 agent (NULL all), $4 user (NULL all).
SELECT count(*)
FROM conversation_embeddings
WHERE tenant_id = $1 AND conversation_id = $2
    AND ($3::uuid IS NULL OR agent_id = $3) AND ($4::text IS NULL OR user_id = $4);

-- name: rows_of_tenant
-- Counts what is left of a tenant but for the receipt of its erasure. $1 tenant, $2 the erasure.
SELECT
    (SELECT count(*) FROM conversation_embeddings WHERE tenant_id = $1)
    + (SELECT count(*) FROM superseded_turns WHERE tenant_id = $1)
    + (SELECT count(*) FROM turn_speakers WHERE tenant_id = $1)
    + (SELECT count(*) FROM user_memories WHERE tenant_id = $1)
    + (SELECT count(*) FROM user_memory_revisions WHERE tenant_id = $1)
    + (SELECT count(*) FROM user_memory_archive WHERE tenant_id = $1)
    + (SELECT count(*) FROM document_chunks WHERE tenant_id = $1)
    + (SELECT count(*) FROM documents WHERE tenant_id = $1)
    + (SELECT count(*) FROM ingestion_job_documents WHERE tenant_id = $1)
    + (SELECT count(*) FROM ingestion_jobs WHERE tenant_id = $1)
    + (SELECT count(*) FROM api_tokens WHERE tenant_id = $1)
    + (SELECT count(*) FROM digest_keys WHERE tenant_id = $1)
    + (SELECT count(*) FROM audit_events WHERE tenant_id = $1)
    + (SELECT count(*) FROM erasures WHERE tenant_id = $1 AND id <> $2)
    + (SELECT count(*) FROM tenants WHERE id = $1);

-- name: running_transactions
-- Names every transaction of this database that is running now, but for the one that asks. Readable by every role.
SELECT held.virtualtransaction || ' ' || held.pid AS name
FROM pg_locks AS held
JOIN pg_stat_activity AS session ON session.pid = held.pid
WHERE held.locktype = 'virtualxid' AND held.granted
    AND session.datname = current_database() AND held.pid <> pg_backend_pid();

-- name: unvacuumed_tables
-- Names tables that finished erasures took rows from and that were not vacuumed since.
SELECT unvacuumed_tables();

-- name: mark_vacuumed
-- Records that a vacuum is done. $1 when it began.
SELECT mark_erasures_vacuumed($1);
