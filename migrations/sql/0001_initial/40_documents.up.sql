-- Documents, whole. user_id is '' for a document that belongs to nobody and is global. content is the text that offsets
-- point into, content_sha256 is of the bytes that were sent, and recipe_sha256 of everything the chunks are made from:
-- the same recipe again needs no work. (submitted_at, job_id) is the submission it stems from; an older one that is
-- worked on later does not replace it.
CREATE TABLE documents (
    tenant_id      uuid        NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id             uuid        NOT NULL,
    document_key   text        NOT NULL CHECK (char_length(document_key) BETWEEN 1 AND 1024),
    user_id        text        NOT NULL DEFAULT '' CHECK (char_length(user_id) <= 256),
    is_global      boolean     NOT NULL DEFAULT false,
    document_type  text        NOT NULL CHECK (document_type IN ('text', 'markdown', 'html', 'pdf', 'code')),
    title          text        NOT NULL DEFAULT '',
    content        text        NOT NULL,
    content_characters integer NOT NULL GENERATED ALWAYS AS (char_length(content)) STORED,
    content_sha256 bytea       NOT NULL CHECK (octet_length(content_sha256) = 32),
    recipe_sha256  bytea       NOT NULL CHECK (octet_length(recipe_sha256) = 32),
    metadata       jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    language       text        NOT NULL DEFAULT 'english',
    chunk_count    integer     NOT NULL CHECK (chunk_count >= 0),
    job_id         uuid        NOT NULL,
    submitted_at   timestamptz NOT NULL,
    occurred_at    timestamptz NOT NULL DEFAULT now(),
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, user_id, document_key),
    CHECK (user_id <> '' OR is_global)
);
-- Which languages a tenant has, found by a few probes.
CREATE INDEX documents_language ON documents (tenant_id, language);
CREATE INDEX documents_created ON documents (tenant_id, created_at DESC, id);
ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE documents FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON documents
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
-- Row-level security keeps "@@" off every index. hybrid_search() gets the index back: it belongs to a role nobody can
-- log in as, which the policy lets read, and takes the tenant from the setting alone.
CREATE POLICY hybrid_search ON documents FOR SELECT TO memsidecar_search USING (true);

-- What word search reads of a chunk. array_to_string is only "stable" because other element types may be; for text it
-- never changes.
CREATE FUNCTION chunk_words(title text, heading_path text[], content text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT concat_ws(' ', title, array_to_string(heading_path, ' '), content) $$;

-- Ids are random (version 4): the first by id are then a fair sample of a tenant's chunks, and tell how many there are.
-- visible_to is the user who sees it, or '' for everybody of the tenant.
-- Passages: content is exactly the characters [start_char, end_char) of the document's content. What a search filters
-- by is repeated here, so that one index scan answers it.
CREATE TABLE document_chunks (
    tenant_id     uuid        NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id            uuid        NOT NULL,
    document_id   uuid        NOT NULL,
    chunk_index   integer     NOT NULL CHECK (chunk_index >= 0),
    user_id       text        NOT NULL,
    is_global     boolean     NOT NULL,
    document_type text        NOT NULL,
    title         text        NOT NULL DEFAULT '',
    content       text        NOT NULL,
    start_char    integer     NOT NULL CHECK (start_char >= 0),
    end_char      integer     NOT NULL CHECK (end_char > start_char),
    heading_path  text[]      NOT NULL DEFAULT '{}',
    page_number   integer     NOT NULL DEFAULT 0 CHECK (page_number >= 0),
    metadata      jsonb       NOT NULL DEFAULT '{}',
    language      text        NOT NULL DEFAULT 'english',
    token_count   integer     NOT NULL,
    occurred_at   timestamptz NOT NULL,
    model_id      smallint    NOT NULL REFERENCES embedding_models (id),
    visible_to    text        NOT NULL GENERATED ALWAYS AS (CASE WHEN is_global THEN '' ELSE user_id END) STORED,
    lexemes       tsvector    NOT NULL
        GENERATED ALWAYS AS (text_lexemes(language, chunk_words(title, heading_path, content))) STORED,
    embedding     vector(384) NOT NULL,
    embedding_half halfvec(384) NOT NULL GENERATED ALWAYS AS (embedding::halfvec(384)) STORED,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, document_id, chunk_index),
    FOREIGN KEY (tenant_id, document_id) REFERENCES documents (tenant_id, id) ON DELETE CASCADE
);
-- Words are read row by row, vectors from the covering index: so words stay in the row, and vectors out of it.
ALTER TABLE document_chunks ALTER COLUMN lexemes SET STORAGE MAIN;
ALTER TABLE document_chunks ALTER COLUMN embedding SET STORAGE EXTERNAL;
ALTER TABLE document_chunks ALTER COLUMN embedding_half SET STORAGE EXTERNAL;
-- Reading the covering index alone needs pages that vacuum has seen; new rows call for it early.
ALTER TABLE document_chunks SET (
    autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_insert_threshold = 2000,
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05
);
-- The nearest of everything a reader sees are found exactly, in this index alone: half precision orders vectors as full
-- precision does but for the closest of ties.
CREATE INDEX document_chunks_vectors ON document_chunks (tenant_id, visible_to)
    INCLUDE (embedding_half, model_id, document_id, document_type, occurred_at, id);
-- The tenant comes first in the index on words too: without it, a frequent word costs every tenant what it costs all of
-- them together.
CREATE INDEX document_chunks_lexemes ON document_chunks USING gin (tenant_id, lexemes) WITH (fastupdate = off);
ALTER TABLE document_chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE document_chunks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON document_chunks
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
CREATE POLICY hybrid_search ON document_chunks FOR SELECT TO memsidecar_search USING (true);

-- Work to take documents in. A job is worked on in slices: a worker holds it by a lease that it renews, and gives it
-- back so that other tenants get their turn. receiving: its documents are still arriving; nobody sees it, and it is
-- dropped when they stop arriving.
CREATE TABLE ingestion_jobs (
    tenant_id        uuid        NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id               uuid        NOT NULL,
    status           text        NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'processing', 'completed', 'failed', 'partial')),
    receiving        boolean     NOT NULL DEFAULT false,
    total            integer     NOT NULL DEFAULT 0 CHECK (total >= 0),
    processed        integer     NOT NULL DEFAULT 0 CHECK (processed >= 0),
    failed           integer     NOT NULL DEFAULT 0 CHECK (failed >= 0),
    unchanged        integer     NOT NULL DEFAULT 0 CHECK (unchanged >= 0),
    progress_percent double precision NOT NULL
        GENERATED ALWAYS AS (CASE WHEN total = 0 THEN 100 ELSE (processed + failed) * 100.0 / total END) STORED,
    errors           jsonb       NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(errors) = 'array'),
    cancelled        boolean     NOT NULL DEFAULT false,
    request_id       text        CHECK (char_length(request_id) BETWEEN 1 AND 256),
    requested_by     text        NOT NULL,
    lease_owner      uuid,
    lease_expires_at timestamptz,
    claimed_at       timestamptz,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at       timestamptz,
    finished_at      timestamptz,
    PRIMARY KEY (tenant_id, id),
    CHECK (receiving OR (status IN ('queued', 'processing')) = (finished_at IS NULL))
);
CREATE UNIQUE INDEX ingestion_jobs_request ON ingestion_jobs (tenant_id, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX ingestion_jobs_created ON ingestion_jobs (tenant_id, created_at DESC, id DESC);
CREATE INDEX ingestion_jobs_claimed ON ingestion_jobs (tenant_id, claimed_at DESC) WHERE claimed_at IS NOT NULL;
CREATE INDEX ingestion_jobs_open ON ingestion_jobs (created_at) WHERE status IN ('queued', 'processing');
ALTER TABLE ingestion_jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE ingestion_jobs FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON ingestion_jobs
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
-- Finding the next job to work on looks across tenants; it sees jobs, never documents.
CREATE POLICY control_plane ON ingestion_jobs TO memsidecar_control USING (true);

-- What a job has to take in, as it was sent. raw is emptied once the document is stored or has failed; attempts counts
-- how often a worker began, so that a document that brings workers down is given up in the end.
CREATE TABLE ingestion_job_documents (
    tenant_id     uuid        NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    job_id        uuid        NOT NULL,
    position      integer     NOT NULL CHECK (position >= 0),
    document_key  text        NOT NULL CHECK (char_length(document_key) BETWEEN 1 AND 1024),
    user_id       text        NOT NULL CHECK (char_length(user_id) <= 256),
    is_global     boolean     NOT NULL,
    document_type text        CHECK (document_type IN ('text', 'markdown', 'html', 'pdf', 'code')),
    title         text        NOT NULL DEFAULT '',
    metadata      jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    language      text        NOT NULL,
    occurred_at   timestamptz,
    raw           bytea,
    raw_sha256    bytea       NOT NULL CHECK (octet_length(raw_sha256) = 32),
    recipe_sha256 bytea       NOT NULL CHECK (octet_length(recipe_sha256) = 32),
    status        text        NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'completed', 'unchanged', 'failed', 'cancelled')),
    attempts      integer     NOT NULL DEFAULT 0,
    document_id   uuid,
    PRIMARY KEY (tenant_id, job_id, position),
    UNIQUE (tenant_id, job_id, user_id, document_key),
    FOREIGN KEY (tenant_id, job_id) REFERENCES ingestion_jobs (tenant_id, id) ON DELETE CASCADE,
    CHECK (user_id <> '' OR is_global),
    CHECK ((raw IS NULL) = (status <> 'queued'))
);
ALTER TABLE ingestion_job_documents ALTER COLUMN raw SET STORAGE EXTERNAL;
ALTER TABLE ingestion_job_documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE ingestion_job_documents FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON ingestion_job_documents
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
