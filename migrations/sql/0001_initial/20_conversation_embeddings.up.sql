-- What was said, one row per event, append-only. An edit or a deletion is a row of its own that points by
-- (source, event_id) to the turn it changes, so that it may arrive first.
--
-- Every row stands at the place of its turn: turn_id, conversation_id, role, speaker and occurred_at of an edit are those
-- of the original, so that a reader filters and orders by the row's own columns. changed_at is when the edit or deletion
-- itself was made. While the original is not there, the earliest edit stands in for it; when a better place becomes
-- known, the state is stored once more at that place, as a row whose placed_from names the edit it repeats.
--
-- How a turn stands is the one row of it that superseded_turns does not name; none when it is deleted.
CREATE TABLE conversation_embeddings (
    tenant_id        uuid        NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id               uuid        NOT NULL,
    turn_id          uuid        NOT NULL,
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
    changed_at       timestamptz,
    placed_from      uuid,
    model_id         smallint    NOT NULL REFERENCES embedding_models (id),
    lexemes          tsvector    NOT NULL
        GENERATED ALWAYS AS (text_lexemes(language, speaker_name || ' ' || content)) STORED,
    embedding        vector(384) NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK ((source IS NULL) = (event_id IS NULL)),
    CHECK ((action = 'said') = (target_event_id IS NULL) AND (target_source IS NULL) = (target_event_id IS NULL)),
    CHECK ((action = 'said') = (changed_at IS NULL)),
    CHECK (action <> 'said' OR turn_id = id),
    CHECK (placed_from IS NULL OR (action = 'edited' AND event_id IS NULL)),
    CHECK ((action = 'deleted') = (content = ''))
);
-- The same event twice is one turn.
CREATE UNIQUE INDEX conversation_embeddings_event
    ON conversation_embeddings (tenant_id, agent_id, user_id, source, event_id) WHERE event_id IS NOT NULL;
-- Edits and deletions by what they change: few rows.
CREATE INDEX conversation_embeddings_target
    ON conversation_embeddings (tenant_id, agent_id, user_id, target_source, target_event_id)
    WHERE target_event_id IS NOT NULL;
-- What people said in the memory of others: few rows, found when one of them is to be forgotten.
CREATE INDEX conversation_embeddings_speaker
    ON conversation_embeddings (tenant_id, speaker_id) WHERE speaker_id <> '' AND user_id <> speaker_id;
CREATE INDEX conversation_embeddings_scope
    ON conversation_embeddings (tenant_id, agent_id, user_id, created_at DESC);
CREATE INDEX conversation_embeddings_conversation
    ON conversation_embeddings (tenant_id, conversation_id, occurred_at, id);

-- Statistics hold samples of what they are about, and would outlive it: none about what was said.
ALTER TABLE conversation_embeddings
    ALTER COLUMN content SET STATISTICS 0, ALTER COLUMN speaker_name SET STATISTICS 0,
    ALTER COLUMN metadata SET STATISTICS 0, ALTER COLUMN embedding SET STATISTICS 0;
ALTER TABLE conversation_embeddings ENABLE ROW LEVEL SECURITY;
ALTER TABLE conversation_embeddings FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON conversation_embeddings
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON conversation_embeddings
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Rows that do not, or no longer, say how a turn stands: an original that was edited, an edit that was edited again or
-- came too late, every row of a deleted turn. Written in the transaction that makes it so. The one rule for readers: a
-- row counts unless it is named here; as of a past moment, unless it was named here until then. Few turns are ever
-- changed, so this stays small.
CREATE TABLE superseded_turns (
    tenant_id     uuid        NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id            uuid        NOT NULL,
    agent_id      uuid        NOT NULL,
    user_id       text        NOT NULL,
    superseded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, id) REFERENCES conversation_embeddings (tenant_id, id) ON DELETE CASCADE
);
-- Read whole, by scope and without a visit to the table, into the hash that a scan of turns is filtered by.
CREATE INDEX superseded_turns_scope ON superseded_turns (tenant_id, user_id, agent_id) INCLUDE (id, superseded_at);
ALTER TABLE superseded_turns ENABLE ROW LEVEL SECURITY;
ALTER TABLE superseded_turns FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON superseded_turns
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON superseded_turns
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
