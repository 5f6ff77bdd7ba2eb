-- Documents, whole. user_id is '' for a document that belongs to nobody and is global.
CREATE TABLE documents (
    tenant_id      uuid        NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id             uuid        NOT NULL,
    document_key   text        NOT NULL CHECK (char_length(document_key) BETWEEN 1 AND 1024),
    user_id        text        NOT NULL DEFAULT '' CHECK (char_length(user_id) <= 256),
    is_global      boolean     NOT NULL DEFAULT false,
    document_type  text        NOT NULL CHECK (document_type IN ('text', 'markdown', 'html', 'pdf', 'code')),
    title          text        NOT NULL DEFAULT '',
    content        text        NOT NULL,
    content_sha256 bytea       NOT NULL CHECK (octet_length(content_sha256) = 32),
    metadata       jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    language       text        NOT NULL DEFAULT 'english',
    chunk_count    integer     NOT NULL CHECK (chunk_count >= 0),
    occurred_at    timestamptz NOT NULL DEFAULT now(),
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, user_id, document_key),
    CHECK (user_id <> '' OR is_global)
);
CREATE INDEX documents_created ON documents (tenant_id, created_at DESC, id);
ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE documents FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON documents
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);

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
    lexemes       tsvector    NOT NULL
        GENERATED ALWAYS AS (text_lexemes(language, title || ' ' || content)) STORED,
    embedding     vector(384) NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, document_id, chunk_index),
    FOREIGN KEY (tenant_id, document_id) REFERENCES documents (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX document_chunks_owner ON document_chunks (tenant_id, user_id);
CREATE INDEX document_chunks_lexemes ON document_chunks USING gin (lexemes);
ALTER TABLE document_chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE document_chunks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON document_chunks
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);

-- Work to take documents in. A worker holds a job by a lease that it renews.
CREATE TABLE ingestion_jobs (
    tenant_id        uuid        NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id               uuid        NOT NULL,
    status           text        NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'processing', 'completed', 'failed', 'partial')),
    total            integer     NOT NULL CHECK (total >= 0),
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
    created_at       timestamptz NOT NULL DEFAULT now(),
    started_at       timestamptz,
    finished_at      timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX ingestion_jobs_request ON ingestion_jobs (tenant_id, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX ingestion_jobs_open ON ingestion_jobs (created_at) WHERE status IN ('queued', 'processing');
ALTER TABLE ingestion_jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE ingestion_jobs FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON ingestion_jobs
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
-- Finding the next job to work on looks across tenants; it sees jobs, never documents.
CREATE POLICY control_plane ON ingestion_jobs TO memsidecar_control USING (true);

-- What a job has to take in. raw is emptied once the document is stored or has failed.
CREATE TABLE ingestion_job_documents (
    tenant_id     uuid        NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    job_id        uuid        NOT NULL,
    position      integer     NOT NULL CHECK (position >= 0),
    document_key  text        NOT NULL,
    user_id       text        NOT NULL,
    is_global     boolean     NOT NULL,
    document_type text        CHECK (document_type IN ('text', 'markdown', 'html', 'pdf', 'code')),
    title         text        NOT NULL DEFAULT '',
    metadata      jsonb       NOT NULL DEFAULT '{}',
    language      text        NOT NULL,
    occurred_at   timestamptz NOT NULL,
    raw           bytea,
    raw_sha256    bytea       NOT NULL CHECK (octet_length(raw_sha256) = 32),
    status        text        NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'completed', 'unchanged', 'failed', 'cancelled')),
    document_id   uuid,
    PRIMARY KEY (tenant_id, job_id, position),
    FOREIGN KEY (tenant_id, job_id) REFERENCES ingestion_jobs (tenant_id, id) ON DELETE CASCADE
);
ALTER TABLE ingestion_job_documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE ingestion_job_documents FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON ingestion_job_documents
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
