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
        GENERATED ALWAYS AS (text_lexemes(language, content)) STORED,
    asks             boolean     NOT NULL
        GENERATED ALWAYS AS (right(rtrim(content, E' \t\r\n"'')'), 1) IN ('?', '？', '؟')) STORED,
    embedding        vector(384) NOT NULL,
    embedding_half   halfvec(384) NOT NULL
        GENERATED ALWAYS AS (embedding::halfvec(384)) STORED,
    PRIMARY KEY (tenant_id, id),
    CHECK ((source IS NULL) = (event_id IS NULL)),
    CHECK ((action = 'said') = (target_event_id IS NULL) AND (target_source IS NULL) = (target_event_id IS NULL)),
    CHECK ((action = 'said') = (changed_at IS NULL)),
    CHECK (action <> 'said' OR turn_id = id),
    CHECK (placed_from IS NULL OR (action = 'edited' AND event_id IS NULL)),
    CHECK ((action = 'deleted') = (content = ''))
);
-- A scan of a scope reads half-precision vectors, which stay in the row; full ones lie beside it (TOAST) and are read for
-- the few that matter. With both in the row, or none, the scan is several times slower.
ALTER TABLE conversation_embeddings ALTER COLUMN embedding_half SET STORAGE PLAIN;
ALTER TABLE conversation_embeddings ALTER COLUMN embedding SET STORAGE EXTERNAL;
-- Lexemes are read for every turn of a scope: never compressed, and beside the row only when nothing else helps.
ALTER TABLE conversation_embeddings ALTER COLUMN lexemes SET STORAGE MAIN;
-- Statistics and the visibility map of a table that only grows have to follow its inserts.
ALTER TABLE conversation_embeddings SET (
    autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_insert_threshold = 5000,
    autovacuum_analyze_scale_factor = 0.02
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
-- Scopes of a user, an agent and a tenant are measured in this index alone. The keys of other indexes stay out of it: a
-- generic plan would take it for their scopes too, and read a whole agent to find one conversation.
CREATE INDEX conversation_embeddings_scope
    ON conversation_embeddings (tenant_id, agent_id, user_id, created_at DESC)
    INCLUDE (id, model_id, occurred_at, role, embedding_half);
CREATE INDEX conversation_embeddings_user
    ON conversation_embeddings (tenant_id, user_id, occurred_at, id);
CREATE INDEX conversation_embeddings_conversation
    ON conversation_embeddings (tenant_id, conversation_id, occurred_at, id);

-- Statistics hold samples of what they are about, and would outlive it: none about what was said.
ALTER TABLE conversation_embeddings
    ALTER COLUMN content SET STATISTICS 0, ALTER COLUMN speaker_name SET STATISTICS 0,
    ALTER COLUMN metadata SET STATISTICS 0, ALTER COLUMN embedding SET STATISTICS 0,
    ALTER COLUMN embedding_half SET STATISTICS 0, ALTER COLUMN lexemes SET STATISTICS 0;
-- Agents, users and conversations belong to one tenant each; without this the planner takes every scope for one row. Degrees
-- of dependency only, no values.
CREATE STATISTICS conversation_embeddings_dependencies (dependencies)
    ON tenant_id, agent_id, user_id, conversation_id FROM conversation_embeddings;

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

-- Which names and roles speak in a scope, so that a recall can tell whom a query speaks of without reading the turns.
CREATE TABLE turn_speakers (
    tenant_id    uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    user_id      text NOT NULL,
    agent_id     uuid NOT NULL,
    role         text NOT NULL,
    speaker_name text NOT NULL,
    PRIMARY KEY (tenant_id, user_id, agent_id, role, speaker_name)
);
ALTER TABLE turn_speakers ENABLE ROW LEVEL SECURITY;
ALTER TABLE turn_speakers FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON turn_speakers
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
