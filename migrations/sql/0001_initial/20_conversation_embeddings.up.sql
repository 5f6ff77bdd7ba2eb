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
CREATE INDEX conversation_embeddings_scope
    ON conversation_embeddings (tenant_id, agent_id, user_id, created_at DESC);
CREATE INDEX conversation_embeddings_user
    ON conversation_embeddings (tenant_id, user_id, occurred_at, id);
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

-- Which of up to 32 terms occur in a text, as bits. One expression without a subquery: it runs for every turn of a scope.
CREATE FUNCTION matched_terms(words tsvector, terms tsquery[]) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN
        CASE WHEN words @@ terms[1] THEN 1 ELSE 0 END::bigint
        + CASE WHEN words @@ terms[2] THEN 2 ELSE 0 END
        + CASE WHEN words @@ terms[3] THEN 4 ELSE 0 END
        + CASE WHEN words @@ terms[4] THEN 8 ELSE 0 END
        + CASE WHEN words @@ terms[5] THEN 16 ELSE 0 END
        + CASE WHEN words @@ terms[6] THEN 32 ELSE 0 END
        + CASE WHEN words @@ terms[7] THEN 64 ELSE 0 END
        + CASE WHEN words @@ terms[8] THEN 128 ELSE 0 END
        + CASE WHEN words @@ terms[9] THEN 256 ELSE 0 END
        + CASE WHEN words @@ terms[10] THEN 512 ELSE 0 END
        + CASE WHEN words @@ terms[11] THEN 1024 ELSE 0 END
        + CASE WHEN words @@ terms[12] THEN 2048 ELSE 0 END
        + CASE WHEN words @@ terms[13] THEN 4096 ELSE 0 END
        + CASE WHEN words @@ terms[14] THEN 8192 ELSE 0 END
        + CASE WHEN words @@ terms[15] THEN 16384 ELSE 0 END
        + CASE WHEN words @@ terms[16] THEN 32768 ELSE 0 END
        + CASE WHEN words @@ terms[17] THEN 65536 ELSE 0 END
        + CASE WHEN words @@ terms[18] THEN 131072 ELSE 0 END
        + CASE WHEN words @@ terms[19] THEN 262144 ELSE 0 END
        + CASE WHEN words @@ terms[20] THEN 524288 ELSE 0 END
        + CASE WHEN words @@ terms[21] THEN 1048576 ELSE 0 END
        + CASE WHEN words @@ terms[22] THEN 2097152 ELSE 0 END
        + CASE WHEN words @@ terms[23] THEN 4194304 ELSE 0 END
        + CASE WHEN words @@ terms[24] THEN 8388608 ELSE 0 END
        + CASE WHEN words @@ terms[25] THEN 16777216 ELSE 0 END
        + CASE WHEN words @@ terms[26] THEN 33554432 ELSE 0 END
        + CASE WHEN words @@ terms[27] THEN 67108864 ELSE 0 END
        + CASE WHEN words @@ terms[28] THEN 134217728 ELSE 0 END
        + CASE WHEN words @@ terms[29] THEN 268435456 ELSE 0 END
        + CASE WHEN words @@ terms[30] THEN 536870912 ELSE 0 END
        + CASE WHEN words @@ terms[31] THEN 1073741824 ELSE 0 END
        + CASE WHEN words @@ terms[32] THEN 2147483648::bigint ELSE 0 END;
