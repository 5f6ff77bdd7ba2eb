-- What was said, one row per event, append-only. An edit or a deletion is a row of its own that points by
-- (source, event_id) to the turn it changes, so that it may arrive first.
CREATE TABLE conversation_embeddings (
    tenant_id        uuid        NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id               uuid        NOT NULL,
    agent_id         uuid        NOT NULL,
    user_id          text        NOT NULL CHECK (char_length(user_id) BETWEEN 1 AND 256),
    conversation_id  text        NOT NULL CHECK (char_length(conversation_id) BETWEEN 1 AND 256),
    role             text        NOT NULL CHECK (role IN ('user', 'assistant', 'system', 'tool')),
    speaker_id       text        NOT NULL DEFAULT '',
    speaker_name     text        NOT NULL DEFAULT '',
    action           text        NOT NULL DEFAULT 'said' CHECK (action IN ('said', 'edited', 'deleted')),
    source           text        CHECK (char_length(source) BETWEEN 1 AND 256),
    event_id         text        CHECK (char_length(event_id) BETWEEN 1 AND 256),
    target_source    text,
    target_event_id  text,
    content          text        NOT NULL CHECK (char_length(content) <= 32768),
    metadata         jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    language         text        NOT NULL DEFAULT 'english',
    token_count      integer     NOT NULL,
    truncated        boolean     NOT NULL DEFAULT false,
    occurred_at      timestamptz NOT NULL DEFAULT now(),
    created_at       timestamptz NOT NULL DEFAULT now(),
    model_id         smallint    NOT NULL REFERENCES embedding_models (id),
    lexemes          tsvector    NOT NULL
        GENERATED ALWAYS AS (text_lexemes(language, speaker_name || ' ' || content)) STORED,
    embedding        vector(384) NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK ((source IS NULL) = (event_id IS NULL)),
    CHECK ((action = 'said') = (target_event_id IS NULL) AND (target_source IS NULL) = (target_event_id IS NULL)),
    CHECK ((action = 'deleted') = (content = ''))
);
-- The same event twice is one turn.
CREATE UNIQUE INDEX conversation_embeddings_event
    ON conversation_embeddings (tenant_id, agent_id, user_id, source, event_id) WHERE event_id IS NOT NULL;
-- Edits and deletions by what they change: few rows, looked up by every recall.
CREATE INDEX conversation_embeddings_target
    ON conversation_embeddings (tenant_id, agent_id, user_id, target_source, target_event_id, created_at)
    WHERE target_event_id IS NOT NULL;
CREATE INDEX conversation_embeddings_scope
    ON conversation_embeddings (tenant_id, agent_id, user_id, created_at DESC);
CREATE INDEX conversation_embeddings_conversation
    ON conversation_embeddings (tenant_id, conversation_id, occurred_at, id);

ALTER TABLE conversation_embeddings ENABLE ROW LEVEL SECURITY;
ALTER TABLE conversation_embeddings FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON conversation_embeddings
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON conversation_embeddings
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Rows of a scope that no longer say how a turn stands: an original that was edited, an edit that was edited again,
-- everything of a deleted turn. Every reader leaves these out; few turns are ever changed, so the list is short and
-- found through conversation_embeddings_target alone. The latest change by occurred_at wins; two of the same moment
-- are ordered by when they were stored, so every order of arrival ends in the same state.
-- wanted_agents '{}' and wanted_user NULL mean all; known_at NULL means now.
CREATE FUNCTION superseded_turns(wanted_tenant uuid, wanted_agents uuid[], wanted_user text, known_at timestamptz)
    RETURNS uuid[]
    LANGUAGE sql STABLE
    AS $$
    WITH change AS (
        SELECT c.id, c.agent_id, c.user_id, c.target_source, c.target_event_id, c.action,
               row_number() OVER (
                   PARTITION BY c.agent_id, c.user_id, c.target_source, c.target_event_id
                   ORDER BY c.occurred_at DESC, c.created_at DESC, c.id DESC
               ) AS age
        FROM conversation_embeddings AS c
        WHERE c.tenant_id = wanted_tenant
          AND c.target_event_id IS NOT NULL
          AND (cardinality(wanted_agents) = 0 OR c.agent_id = ANY (wanted_agents))
          AND (wanted_user IS NULL OR c.user_id = wanted_user)
          AND (known_at IS NULL OR c.created_at <= known_at)
    )
    SELECT COALESCE(array_agg(superseded.id), '{}')
    FROM (
        SELECT id FROM change WHERE age > 1 OR action = 'deleted'
        UNION ALL
        SELECT original.id
        FROM change
        JOIN conversation_embeddings AS original
            ON original.tenant_id = wanted_tenant
            AND original.agent_id = change.agent_id AND original.user_id = change.user_id
            AND original.source = change.target_source AND original.event_id = change.target_event_id
        WHERE change.age = 1
    ) AS superseded
    $$;
