CREATE EXTENSION IF NOT EXISTS btree_gin WITH SCHEMA public;

COMMENT ON EXTENSION btree_gin IS 'support for indexing common datatypes in GIN';

CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;

COMMENT ON EXTENSION vector IS 'vector data type and ivfflat and hnsw access methods';

CREATE FUNCTION public.audit_digest(previous bytea, trail uuid, event_sequence bigint, event_occurred_at timestamp with time zone, event_actor text, event_action text, event_subject text, event_details text) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    SELECT sha256(string_agg(int4send(octet_length(field.bytes)) || field.bytes, ''::bytea ORDER BY field.position))
    FROM (
        SELECT part.position, convert_to(part.value, 'UTF8') AS bytes
        FROM unnest(ARRAY[
            encode(previous, 'hex'), trail::text, event_sequence::text,
            to_char(event_occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            event_actor, event_action, event_subject, event_details
        ]) WITH ORDINALITY AS part (value, position)
    ) AS field
    $$;

CREATE FUNCTION public.bm25(weight double precision, frequency double precision, length double precision, average_length double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (((weight * (2.2)::double precision) * frequency) / (frequency + ((1.2)::double precision * ((0.25)::double precision + (((0.75)::double precision * length) / average_length)))));

CREATE FUNCTION public.chunk_words(title text, heading_path text[], content text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT concat_ws(' ', title, array_to_string(heading_path, ' '), content) $$;

CREATE FUNCTION public.claim_erasure(worker uuid, lease_seconds integer) RETURNS TABLE(tenant_id uuid, erasure_id uuid)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
    UPDATE erasures AS erasure
    SET lease_owner = worker, lease_expires_at = clock_timestamp() + make_interval(secs => lease_seconds)
    FROM (
        SELECT open.tenant_id, open.id
        FROM erasures AS open
        WHERE open.status = 'running'
          AND (open.lease_expires_at IS NULL OR open.lease_expires_at < clock_timestamp())
        ORDER BY open.requested_at
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS next
    WHERE erasure.tenant_id = next.tenant_id AND erasure.id = next.id
    RETURNING erasure.tenant_id, erasure.id
    $$;

CREATE FUNCTION public.claim_ingestion_job(worker uuid, lease_seconds integer) RETURNS TABLE(tenant_id uuid, job_id uuid)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
    UPDATE ingestion_jobs AS job
    SET status = 'processing', lease_owner = worker,
        lease_expires_at = clock_timestamp() + make_interval(secs => lease_seconds),
        claimed_at = clock_timestamp(),
        started_at = COALESCE(job.started_at, clock_timestamp())
    FROM (
        SELECT open.tenant_id, open.id
        FROM ingestion_jobs AS open
        WHERE open.status IN ('queued', 'processing')
          AND NOT open.receiving
          AND (open.lease_expires_at IS NULL OR open.lease_expires_at < clock_timestamp())
        ORDER BY
            (SELECT max(served.claimed_at) FROM ingestion_jobs AS served WHERE served.tenant_id = open.tenant_id)
                NULLS FIRST,
            open.claimed_at NULLS FIRST, open.created_at, open.id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS next
    WHERE job.tenant_id = next.tenant_id AND job.id = next.id
    RETURNING job.tenant_id, job.id
    $$;

CREATE TABLE public.tenants (
    id uuid NOT NULL,
    name text NOT NULL,
    language text DEFAULT 'english'::text NOT NULL,
    retain_turns interval,
    retain_documents interval,
    retain_jobs interval,
    retain_memory_revisions interval,
    max_turns bigint DEFAULT 0 NOT NULL,
    max_document_bytes bigint DEFAULT 0 NOT NULL,
    calls_per_second integer DEFAULT 0 NOT NULL,
    memory_overflow text DEFAULT 'refuse'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT tenants_calls_per_second_check CHECK ((calls_per_second >= 0)),
    CONSTRAINT tenants_max_document_bytes_check CHECK ((max_document_bytes >= 0)),
    CONSTRAINT tenants_max_turns_check CHECK ((max_turns >= 0)),
    CONSTRAINT tenants_memory_overflow_check CHECK ((memory_overflow = ANY (ARRAY['refuse'::text, 'archive'::text]))),
    CONSTRAINT tenants_name_check CHECK ((name ~ '^[a-z][a-z0-9-]{0,63}$'::text)),
    CONSTRAINT tenants_retain_documents_check CHECK ((retain_documents > '00:00:00'::interval)),
    CONSTRAINT tenants_retain_jobs_check CHECK ((retain_jobs > '00:00:00'::interval)),
    CONSTRAINT tenants_retain_memory_revisions_check CHECK ((retain_memory_revisions > '00:00:00'::interval)),
    CONSTRAINT tenants_retain_turns_check CHECK ((retain_turns > '00:00:00'::interval))
);

ALTER TABLE ONLY public.tenants FORCE ROW LEVEL SECURITY;

CREATE FUNCTION public.create_tenant(new_id uuid, new_name text, new_language text) RETURNS SETOF public.tenants
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
    INSERT INTO tenants (id, name, language) VALUES (new_id, new_name, new_language) RETURNING *
    $$;

CREATE TABLE public.api_tokens (
    id uuid NOT NULL,
    tenant_id uuid,
    name text NOT NULL,
    secret_sha256 bytea NOT NULL,
    rights text[] NOT NULL,
    agent_ids uuid[] DEFAULT '{}'::uuid[] NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT api_tokens_check CHECK ((('operator'::text = ANY (rights)) = (tenant_id IS NULL))),
    CONSTRAINT api_tokens_name_check CHECK (((char_length(name) >= 1) AND (char_length(name) <= 128))),
    CONSTRAINT api_tokens_rights_check CHECK ((rights <@ ARRAY['append'::text, 'recall'::text, 'documents'::text, 'admin'::text, 'operator'::text])),
    CONSTRAINT api_tokens_secret_sha256_check CHECK ((octet_length(secret_sha256) = 32))
);

ALTER TABLE ONLY public.api_tokens FORCE ROW LEVEL SECURITY;

CREATE FUNCTION public.create_token(new_id uuid, new_tenant uuid, new_name text, new_secret_sha256 bytea, new_rights text[], new_agent_ids uuid[], new_expires_at timestamp with time zone) RETURNS SETOF public.api_tokens
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
    INSERT INTO api_tokens (id, tenant_id, name, secret_sha256, rights, agent_ids, expires_at)
    VALUES (new_id, new_tenant, new_name, new_secret_sha256, new_rights, new_agent_ids, new_expires_at)
    RETURNING *
    $$;

CREATE FUNCTION public.current_tenant() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid;

CREATE FUNCTION public.drop_abandoned_ingestion_jobs() RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
    DELETE FROM ingestion_jobs WHERE receiving AND lease_expires_at < clock_timestamp()
    $$;

CREATE FUNCTION public.end_token(wanted_id uuid, wanted_tenant uuid, any_tenant boolean, new_revoked_at timestamp with time zone) RETURNS SETOF public.api_tokens
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
    UPDATE api_tokens SET revoked_at = LEAST(revoked_at, new_revoked_at)
    WHERE id = wanted_id AND (any_tenant OR tenant_id IS NOT DISTINCT FROM wanted_tenant)
    RETURNING *
    $$;

CREATE FUNCTION public.find_erasure(wanted_id uuid, wanted_tenant uuid, any_tenant boolean) RETURNS TABLE(id uuid, tenant_id uuid, kind text, status text, subject_digest text, requested_by text, reason text, requested_at timestamp with time zone, completed_at timestamp with time zone, vacuumed_at timestamp with time zone, erased jsonb, remaining_rows bigint, error text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
    SELECT erasure.id, erasure.tenant_id, erasure.kind, erasure.status, erasure.subject_digest, erasure.requested_by,
           erasure.reason, erasure.requested_at, erasure.completed_at, erasure.vacuumed_at, erasure.erased,
           erasure.remaining_rows, erasure.error
    FROM erasures AS erasure
    WHERE erasure.id = wanted_id AND (any_tenant OR erasure.tenant_id = wanted_tenant)
    $$;

CREATE FUNCTION public.find_tenant(wanted_id uuid, wanted_name text) RETURNS SETOF public.tenants
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
    SELECT * FROM tenants WHERE id = wanted_id OR (wanted_id IS NULL AND name = wanted_name)
    $$;

CREATE FUNCTION public.find_token(wanted_secret_sha256 bytea) RETURNS TABLE(id uuid, tenant_id uuid, tenant_language text, max_turns bigint, max_document_bytes bigint, calls_per_second integer, name text, rights text[], agent_ids uuid[], created_at timestamp with time zone, expires_at timestamp with time zone, revoked_at timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
    SELECT token.id, token.tenant_id, tenant.language, tenant.max_turns, tenant.max_document_bytes,
           tenant.calls_per_second, token.name, token.rights, token.agent_ids, token.created_at, token.expires_at,
           token.revoked_at
    FROM api_tokens AS token
    LEFT JOIN tenants AS tenant ON tenant.id = token.tenant_id
    WHERE token.secret_sha256 = wanted_secret_sha256
    $$;

CREATE FUNCTION public.holds_phrases(content text, phrases text[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (SELECT bool_and((POSITION((phrase.phrase) IN (lower(regexp_replace(holds_phrases.content, '\s+'::text, ' '::text, 'g'::text)))) > 0)) AS bool_and FROM unnest(holds_phrases.phrases) phrase(phrase));

CREATE FUNCTION public.hybrid_search(query text, query_embedding public.vector DEFAULT NULL::public.vector, top_k integer DEFAULT 10, for_user text DEFAULT NULL::text, whole_tenant boolean DEFAULT false, exclude_global boolean DEFAULT false, document_types text[] DEFAULT '{}'::text[], document_ids uuid[] DEFAULT '{}'::uuid[], metadata_contains jsonb DEFAULT '{}'::jsonb, occurred_from timestamp with time zone DEFAULT NULL::timestamp with time zone, occurred_until timestamp with time zone DEFAULT NULL::timestamp with time zone, model smallint DEFAULT NULL::smallint, vector_weight double precision DEFAULT 0.4, lexical_weight double precision DEFAULT 0.6, candidates integer DEFAULT 100, by_document boolean DEFAULT false) RETURNS TABLE(chunk_id uuid, document_id uuid, content text, score double precision, similarity double precision, vector_score double precision, vector_rank integer, bm25_score double precision, lexical_score double precision, lexical_rank integer)
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100
    SET plan_cache_mode TO 'force_custom_plan'
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
DECLARE
    -- The first chunks by id, a random sample, stand for the tenant when words are weighed.
    sample_size CONSTANT integer := 500;
    -- Chunks looked at for words: as many of the rarest words generate candidates as are expected to stay within it.
    lexical_budget CONSTANT integer := 2000;

    tenant CONSTANT uuid := NULLIF(current_setting('app.current_tenant', true), '')::uuid;
    -- Of a document at most three chunks go into the pool when documents are asked for, so that it holds enough of these.
    chunks_of_document CONSTANT integer := 3;
    pool CONSTANT integer := greatest(candidates, CASE WHEN by_document THEN chunks_of_document * top_k ELSE top_k END);
    wanted CONSTANT text := translate(query, '“”„', '"""');
    phrases CONSTANT text[] := query_phrases(wanted);
    readers text[];
    condition tsquery;
    near_ids uuid[];
    words tsquery[];
    frequencies double precision[];
    generates boolean[];
    generating tsquery;
    chunk_count double precision;
    average_length double precision;
BEGIN
    IF tenant IS NULL THEN
        RETURN;
    END IF;
    readers := CASE WHEN exclude_global THEN '{}' ELSE ARRAY[''] END || CASE WHEN for_user <> '' THEN ARRAY[for_user] END;

    WITH RECURSIVE spoken AS (
        SELECT min(document.language) AS language FROM documents AS document WHERE document.tenant_id = tenant
        UNION ALL
        SELECT (
            SELECT min(document.language)
            FROM documents AS document
            WHERE document.tenant_id = tenant AND document.language > spoken.language
        )
        FROM spoken
        WHERE spoken.language IS NOT NULL
    ),
    languages AS MATERIALIZED (
        SELECT array_agg(spoken.language) AS names FROM spoken WHERE spoken.language IS NOT NULL
    )
    SELECT
        query_condition(languages.names, wanted),
        ARRAY(SELECT quote_literal(word)::tsquery FROM unnest(query_lexemes(languages.names, wanted)) AS word)
    INTO condition, words
    FROM languages;

    -- By meaning: everything in scope, nearest first.
    IF query_embedding IS NOT NULL THEN
        SELECT array_agg(near.id ORDER BY near.distance, near.id) INTO near_ids
        FROM (
          SELECT scope.id, scope.distance
          FROM (
            SELECT
                chunk.id, chunk.embedding_half <=> query_embedding::halfvec(384) AS distance,
                row_number() OVER (
                    PARTITION BY chunk.document_id ORDER BY chunk.embedding_half <=> query_embedding::halfvec(384)
                ) AS place_in_document
            FROM document_chunks AS chunk
            WHERE chunk.tenant_id = tenant
                AND (whole_tenant OR chunk.visible_to = ANY (readers))
                AND (NOT whole_tenant OR NOT exclude_global OR chunk.visible_to <> '')
                AND (model IS NULL OR chunk.model_id = model)
                AND (cardinality(document_types) = 0 OR chunk.document_type = ANY (document_types))
                AND (cardinality(document_ids) = 0 OR chunk.document_id = ANY (document_ids))
                AND (occurred_from IS NULL OR chunk.occurred_at >= occurred_from)
                AND (occurred_until IS NULL OR chunk.occurred_at < occurred_until)
                AND (metadata_contains = '{}' OR chunk.metadata @> metadata_contains)
                AND (condition IS NULL OR chunk.lexemes @@ condition)
                AND (
                    phrases IS NULL
                    OR holds_phrases(chunk_words(chunk.title, chunk.heading_path, chunk.content), phrases)
                )
          ) AS scope
          WHERE NOT by_document OR scope.place_in_document <= chunks_of_document
          ORDER BY scope.distance, scope.id
          LIMIT pool
        ) AS near;
    END IF;

    -- What the words weigh. The place of the last of the sample among all possible ids tells how many chunks there are
    -- (Bar-Yossef et al., "Counting distinct elements in a data stream", 2002: (k - 1) / u for the k-th smallest).
    IF cardinality(words) > 0 THEN
        WITH sample AS MATERIALIZED (
            SELECT chunk.id, chunk.lexemes
            FROM document_chunks AS chunk
            WHERE chunk.tenant_id = tenant
            ORDER BY chunk.id
            LIMIT sample_size
        ),
        seen AS MATERIALIZED (
            SELECT
                count(*) AS chunks, avg(length(sample.lexemes)) AS length,
                (('x' || left(max(sample.id::text), 8))::bit(32)::bigint + 1) / 4294967296.0 AS place
            FROM sample
        ),
        counted AS MATERIALIZED (
            SELECT
                word.position, word.query,
                (SELECT count(*) FROM sample WHERE sample.lexemes @@ word.query) AS frequency
            FROM unnest(words) WITH ORDINALITY AS word (query, position)
        ),
        total AS MATERIALIZED (
            SELECT
                seen.chunks, seen.length,
                CASE WHEN seen.chunks < sample_size THEN seen.chunks
                    ELSE greatest(seen.chunks, (seen.chunks - 1) / seen.place) END AS estimate
            FROM seen
        ),
        ranked AS (
            SELECT
                counted.position, counted.query, counted.frequency * total.estimate / total.chunks AS containing,
                row_number() OVER rarest = 1
                OR sum(greatest(counted.frequency, 0.5)) OVER rarest * total.estimate / total.chunks
                <= lexical_budget AS generates
            FROM counted, total
            WHERE total.chunks > 0
            WINDOW rarest AS (ORDER BY counted.frequency, counted.position)
        )
        SELECT
            max(total.estimate), max(total.length), array_agg(ranked.query ORDER BY ranked.position),
            array_agg(ranked.containing ORDER BY ranked.position),
            array_agg(ranked.generates ORDER BY ranked.position),
            string_agg(ranked.query::text, ' | ') FILTER (WHERE ranked.generates)::tsquery
        INTO chunk_count, average_length, words, frequencies, generates, generating
        FROM ranked, total;
        IF condition IS NOT NULL THEN
            generating := generating && condition;
        END IF;
    END IF;

    RETURN QUERY
    WITH near AS MATERIALIZED (
        SELECT near.id, near.place::integer AS place FROM unnest(near_ids) WITH ORDINALITY AS near (id, place)
    ),
    generated AS MATERIALIZED (
        SELECT
            chunk.id, chunk.lexemes, length(chunk.lexemes) AS length,
            (whole_tenant OR chunk.visible_to = ANY (readers))
            AND (NOT whole_tenant OR NOT exclude_global OR chunk.visible_to <> '')
            AND (cardinality(document_types) = 0 OR chunk.document_type = ANY (document_types))
            AND (cardinality(document_ids) = 0 OR chunk.document_id = ANY (document_ids))
            AND (occurred_from IS NULL OR chunk.occurred_at >= occurred_from)
            AND (occurred_until IS NULL OR chunk.occurred_at < occurred_until)
            AND (metadata_contains = '{}' OR chunk.metadata @> metadata_contains)
            AND (
                phrases IS NULL
                OR holds_phrases(chunk_words(chunk.title, chunk.heading_path, chunk.content), phrases)
            ) AS matches
        FROM document_chunks AS chunk
        WHERE chunk.tenant_id = tenant AND chunk.lexemes @@ generating
    ),
    texts AS (
        SELECT generated.id, generated.lexemes, generated.length, generated.matches, true AS generated FROM generated
        UNION ALL
        SELECT near.id, chunk.lexemes, length(chunk.lexemes), true, false
        FROM near
        CROSS JOIN LATERAL (
            SELECT stored.lexemes
            FROM document_chunks AS stored
            WHERE stored.tenant_id = tenant AND stored.id = near.id
            OFFSET 0
        ) AS chunk
        WHERE NOT EXISTS (SELECT FROM generated WHERE generated.id = near.id)
    ),
    occurrence AS MATERIALIZED (
        SELECT texts.id, texts.length, texts.matches, texts.generated, word.place AS word, counted.frequency
        FROM texts
        CROSS JOIN unnest(words) WITH ORDINALITY AS word (query, place)
        CROSS JOIN LATERAL (SELECT term_frequency(texts.lexemes, word.query) AS frequency OFFSET 0) AS counted
        WHERE counted.frequency > 0
    ),
    -- A word that generates candidates has all of its chunks among them, and is counted there.
    word AS MATERIALIZED (
        SELECT
            word.place,
            inverse_document_frequency(
                chunk_count,
                least(
                    chunk_count,
                    CASE WHEN word.generates AND condition IS NULL THEN COALESCE(counted.chunks, 0) ELSE word.estimate END
                )
            ) AS weight
        FROM unnest(frequencies, generates) WITH ORDINALITY AS word (estimate, generates, place)
        LEFT JOIN (
            SELECT occurrence.word, count(*) AS chunks FROM occurrence WHERE occurrence.generated GROUP BY occurrence.word
        ) AS counted ON counted.word = word.place
    ),
    lexical AS MATERIALIZED (
        SELECT matching.*, row_number() OVER (ORDER BY matching.score DESC, matching.id)::integer AS place
        FROM (
            SELECT
                occurrence.id,
                sum(bm25(word.weight, occurrence.frequency, occurrence.length, average_length)) AS score
            FROM occurrence
            JOIN word ON word.place = occurrence.word
            WHERE occurrence.matches
            GROUP BY occurrence.id
        ) AS matching
    ),
    chosen AS (
        SELECT near.id FROM near
        UNION
        SELECT lexical.id FROM lexical WHERE lexical.place <= pool
    ),
    scored AS (
        SELECT
            chosen.id, chunk.document_id, chunk.content, COALESCE(chunk.similarity, 0) AS similarity,
            COALESCE(near.place, 0) AS vector_rank, COALESCE(lexical.score, 0) AS bm25_score,
            CASE WHEN lexical.place <= pool THEN lexical.place ELSE 0 END AS lexical_rank,
            COALESCE(
                greatest(chunk.similarity, 0) / NULLIF(max(greatest(chunk.similarity, 0)) OVER (), 0), 0
            ) AS vector_score,
            COALESCE(lexical.score / NULLIF(max(lexical.score) OVER (), 0), 0) AS lexical_score
        FROM chosen
        CROSS JOIN LATERAL (
            SELECT
                stored.document_id, stored.content,
                CASE WHEN model IS NULL OR stored.model_id = model THEN 1 - (stored.embedding <=> query_embedding) END
                AS similarity
            FROM document_chunks AS stored
            WHERE stored.tenant_id = tenant AND stored.id = chosen.id
            OFFSET 0
        ) AS chunk
        LEFT JOIN near ON near.id = chosen.id
        LEFT JOIN lexical ON lexical.id = chosen.id
    ),
    fused AS (
        SELECT scored.*, vector_weight * scored.vector_score + lexical_weight * scored.lexical_score AS score
        FROM scored
    ),
    placed AS (
        SELECT
            fused.*, max(fused.score) OVER (PARTITION BY fused.document_id) AS document_score
        FROM fused
    ),
    ordered AS (
        SELECT placed.*, dense_rank() OVER (ORDER BY placed.document_score DESC, placed.document_id) AS document_place
        FROM placed
    )
    SELECT
        ordered.id, ordered.document_id, ordered.content, ordered.score, ordered.similarity, ordered.vector_score,
        ordered.vector_rank, ordered.bm25_score, ordered.lexical_score, COALESCE(ordered.lexical_rank, 0)
    FROM ordered
    WHERE NOT by_document OR ordered.document_place <= top_k
    ORDER BY
        CASE WHEN by_document THEN ordered.document_place END, ordered.score DESC, ordered.similarity DESC, ordered.id
    LIMIT CASE WHEN by_document THEN NULL ELSE top_k END;
END
$$;

CREATE FUNCTION public.identifier_words(content text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (SELECT string_agg((CASE WHEN (found.found[1] ~ '[^[:alnum:]]'::text) THEN (regexp_replace(found.found[1], '[^[:alnum:]]+'::text, ''::text, 'g'::text) || ' '::text) ELSE ''::text END || CASE WHEN (found.found[1] ~ '[[:lower:]]{2}[[:upper:]]|[[:upper:]]{2}[[:lower:]]{2}'::text) THEN regexp_replace(found.found[1], '([[:lower:]]{2})(?=[[:upper:]])|([[:upper:]])(?=[[:upper:]][[:lower:]]{2})|[^[:alnum:]]+'::text, '\1\2 '::text, 'g'::text) ELSE ''::text END), ' '::text) AS string_agg FROM regexp_matches(identifier_words.content, '([[:alnum:]]+(?:[_.:/\\@#]+[[:alnum:]]+)+|[[:alpha:]]+-\d+[[:alnum:]]*|[[:alnum:]]*(?:[[:lower:]]{2}[[:upper:]]|[[:upper:]]{2}[[:lower:]]{2})[[:alnum:]]*)'::text, 'g'::text) found(found));

CREATE FUNCTION public.ingestion_backlog() RETURNS TABLE(open_jobs bigint, oldest_seconds double precision)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
    SELECT count(*), COALESCE(EXTRACT(epoch FROM clock_timestamp() - min(created_at)), 0)::double precision
    FROM ingestion_jobs
    WHERE status IN ('queued', 'processing') AND NOT receiving
    $$;

CREATE FUNCTION public.inverse_document_frequency(text_count double precision, containing double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ln(((1)::double precision + (((text_count - containing) + (0.5)::double precision) / (containing + (0.5)::double precision))));

CREATE FUNCTION public.list_tenants(after_name text, row_limit integer) RETURNS SETOF public.tenants
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
    SELECT * FROM tenants WHERE name > after_name ORDER BY name LIMIT row_limit
    $$;

CREATE FUNCTION public.list_tokens(wanted_tenant uuid, before_created_at timestamp with time zone, before_id uuid, row_limit integer) RETURNS SETOF public.api_tokens
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
    SELECT * FROM api_tokens
    WHERE tenant_id IS NOT DISTINCT FROM wanted_tenant
      AND (before_id IS NULL OR (created_at, id) < (before_created_at, before_id))
    ORDER BY created_at DESC, id DESC
    LIMIT row_limit
    $$;

CREATE FUNCTION public.mark_erasures_vacuumed(vacuum_began_at timestamp with time zone) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
    UPDATE erasures SET vacuumed_at = clock_timestamp()
    WHERE status = 'completed' AND vacuumed_at IS NULL AND completed_at <= vacuum_began_at
    $$;

CREATE FUNCTION public.query_condition(languages text[], query text) RETURNS tsquery
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET client_min_messages TO 'error'
    AS $$
DECLARE
    part record;
    wanted tsquery;
    condition tsquery;
BEGIN
    FOR part IN
        SELECT
            COALESCE(parsed[1], '') = '-' AS excluded,
            (
                SELECT array_agg(phrase)
                FROM unnest(languages) AS language
                CROSS JOIN LATERAL phraseto_tsquery(
                    text_search_configuration(language), words_apart(COALESCE(parsed[2], parsed[3]))
                ) AS phrase
                WHERE numnode(phrase) > 0
            ) AS phrases
        FROM regexp_matches(
            query, '(?:(?<!\S)(-)(?=[[:alpha:]"]))?(?:"([^"]*)"|(?<=(?:^|\s)-)([[:alpha:]]\S*))', 'g'
        ) AS parsed
    LOOP
        CONTINUE WHEN part.phrases IS NULL;
        wanted := part.phrases[1];
        FOR place IN 2..cardinality(part.phrases) LOOP
            wanted := wanted || part.phrases[place];
        END LOOP;
        IF part.excluded THEN
            wanted := !!wanted;
        END IF;
        condition := CASE WHEN condition IS NULL THEN wanted ELSE condition && wanted END;
    END LOOP;
    RETURN condition;
END
$$;

CREATE FUNCTION public.text_search_configuration(language text) RETURNS regconfig
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE language WHEN 'arabic'::text THEN 'arabic'::regconfig WHEN 'armenian'::text THEN 'armenian'::regconfig WHEN 'basque'::text THEN 'basque'::regconfig WHEN 'catalan'::text THEN 'catalan'::regconfig WHEN 'danish'::text THEN 'danish'::regconfig WHEN 'dutch'::text THEN 'dutch'::regconfig WHEN 'english'::text THEN 'english'::regconfig WHEN 'finnish'::text THEN 'finnish'::regconfig WHEN 'french'::text THEN 'french'::regconfig WHEN 'german'::text THEN 'german'::regconfig WHEN 'greek'::text THEN 'greek'::regconfig WHEN 'hindi'::text THEN 'hindi'::regconfig WHEN 'hungarian'::text THEN 'hungarian'::regconfig WHEN 'indonesian'::text THEN 'indonesian'::regconfig WHEN 'irish'::text THEN 'irish'::regconfig WHEN 'italian'::text THEN 'italian'::regconfig WHEN 'lithuanian'::text THEN 'lithuanian'::regconfig WHEN 'nepali'::text THEN 'nepali'::regconfig WHEN 'norwegian'::text THEN 'norwegian'::regconfig WHEN 'portuguese'::text THEN 'portuguese'::regconfig WHEN 'romanian'::text THEN 'romanian'::regconfig WHEN 'russian'::text THEN 'russian'::regconfig WHEN 'serbian'::text THEN 'serbian'::regconfig WHEN 'spanish'::text THEN 'spanish'::regconfig WHEN 'swedish'::text THEN 'swedish'::regconfig WHEN 'tamil'::text THEN 'tamil'::regconfig WHEN 'turkish'::text THEN 'turkish'::regconfig WHEN 'yiddish'::text THEN 'yiddish'::regconfig ELSE 'simple'::regconfig END;

CREATE FUNCTION public.words_apart(content text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN regexp_replace(regexp_replace(content, '(\d),(?=\d{3}(?!\d))'::text, '\1'::text, 'g'::text), '([[:alpha:]])[.]+(?=[[:alnum:]])|([[:alnum:]]?)[:/\\@#]+(?=[[:alnum:]])|([[:alnum:]]?)-(?=\d)'::text, '\1\2\3 '::text, 'g'::text);

CREATE FUNCTION public.text_lexemes(language text, content text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN to_tsvector(public.text_search_configuration(language), CASE WHEN (content ~ '[[:alnum:]][_.:/\\@#]+[[:alnum:]]|-\d|\d,\d{3}|[[:lower:]]{2}[[:upper:]]|[[:upper:]]{2}[[:lower:]]{2}'::text) THEN (public.words_apart(content) || COALESCE((' '::text || public.identifier_words(content)), ''::text)) ELSE content END);

CREATE FUNCTION public.query_lexemes(languages text[], query text) RETURNS text[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (SELECT array_agg(DISTINCT word.lexeme) AS array_agg FROM (unnest(query_lexemes.languages) language(language) CROSS JOIN LATERAL unnest(public.text_lexemes(language.language, regexp_replace(query_lexemes.query, '(?<!\S)-(?=[[:alpha:]"])("[^"]*"|\S+)'::text, ' '::text, 'g'::text))) word(lexeme, positions, weights)));

CREATE FUNCTION public.query_phrases(query text) RETURNS text[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (SELECT array_agg(lower(btrim(regexp_replace(found.found[2], '\s+'::text, ' '::text, 'g'::text)))) AS array_agg FROM regexp_matches(query_phrases.query, '((?<!\S)-)?"([^"]*)"'::text, 'g'::text) found(found) WHERE ((found.found[1] IS NULL) AND (found.found[2] ~ '\S'::text)));

CREATE FUNCTION public.record_audit_event(trail uuid, new_actor text, new_action text, new_subject text, new_details text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
DECLARE
    last_sequence bigint;
    last_digest   bytea;
    moment        timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit ' || trail, 0));
    SELECT sequence, digest INTO last_sequence, last_digest
    FROM audit_events WHERE tenant_id = trail ORDER BY sequence DESC LIMIT 1;
    last_sequence := COALESCE(last_sequence, 0);
    last_digest := COALESCE(last_digest, ''::bytea);
    moment := clock_timestamp();
    INSERT INTO audit_events (tenant_id, sequence, occurred_at, actor, action, subject, details, digest)
    VALUES (
        trail, last_sequence + 1, moment, new_actor, new_action, new_subject, new_details,
        audit_digest(
            last_digest, trail, last_sequence + 1, moment, new_actor, new_action, new_subject, new_details
        )
    );
END
$$;

CREATE FUNCTION public.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP = 'DELETE' AND 'memsidecar_eraser' IN (current_user, current_setting('role')) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Append a turn that edits or deletes, or erase through the eraser role.';
END
$$;

CREATE FUNCTION public.term_frequency(words tsvector, word tsquery) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN round((((1)::double precision / ((1.6449340668482264)::double precision - LEAST(((ts_rank('{1,1,1,1}'::real[], words, word))::double precision * (1.64493406685)::double precision), (1.6449)::double precision))) - (0.5)::double precision));

CREATE FUNCTION public.unvacuumed_tables() RETURNS SETOF text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
    SELECT DISTINCT touched.name
    FROM erasures AS erasure
    CROSS JOIN LATERAL jsonb_object_keys(erasure.erased) AS touched (name)
    WHERE erasure.status = 'completed' AND erasure.vacuumed_at IS NULL
    $$;

CREATE FUNCTION public.update_tenant(changed public.tenants) RETURNS SETOF public.tenants
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'public', 'public', 'pg_temp'
    AS $$
    UPDATE tenants
    SET language = changed.language, retain_turns = changed.retain_turns,
        retain_documents = changed.retain_documents, retain_jobs = changed.retain_jobs,
        retain_memory_revisions = changed.retain_memory_revisions, max_turns = changed.max_turns,
        max_document_bytes = changed.max_document_bytes, calls_per_second = changed.calls_per_second,
        memory_overflow = changed.memory_overflow
    WHERE id = changed.id
    RETURNING *
    $$;

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);

CREATE TABLE public.audit_events (
    tenant_id uuid NOT NULL,
    sequence bigint NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    details text NOT NULL,
    digest bytea NOT NULL,
    CONSTRAINT audit_events_digest_check CHECK ((octet_length(digest) = 32)),
    CONSTRAINT audit_events_sequence_check CHECK ((sequence >= 1))
);

ALTER TABLE ONLY public.audit_events FORCE ROW LEVEL SECURITY;

CREATE TABLE public.conversation_embeddings (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    turn_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    user_id text NOT NULL,
    conversation_id text NOT NULL,
    role text NOT NULL,
    speaker_id text DEFAULT ''::text NOT NULL,
    speaker_name text DEFAULT ''::text NOT NULL,
    action text DEFAULT 'said'::text NOT NULL,
    source text,
    event_id text,
    target_source text,
    target_event_id text,
    content text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    language text DEFAULT 'english'::text NOT NULL,
    token_count integer NOT NULL,
    truncated boolean DEFAULT false NOT NULL,
    occurred_at timestamp with time zone DEFAULT now() NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_at timestamp with time zone,
    placed_from uuid,
    model_id smallint NOT NULL,
    lexemes tsvector GENERATED ALWAYS AS (public.text_lexemes(language, content)) STORED NOT NULL,
    asks boolean GENERATED ALWAYS AS (("right"(rtrim(content, ' 	
"'')'::text), 1) = ANY (ARRAY['?'::text, '？'::text, '؟'::text]))) STORED NOT NULL,
    embedding public.vector(384) NOT NULL,
    embedding_half public.halfvec(384) GENERATED ALWAYS AS ((embedding)::public.halfvec(384)) STORED NOT NULL,
    CONSTRAINT conversation_embeddings_action_check CHECK ((action = ANY (ARRAY['said'::text, 'edited'::text, 'deleted'::text]))),
    CONSTRAINT conversation_embeddings_check CHECK (((source IS NULL) = (event_id IS NULL))),
    CONSTRAINT conversation_embeddings_check1 CHECK ((((action = 'said'::text) = (target_event_id IS NULL)) AND ((target_source IS NULL) = (target_event_id IS NULL)))),
    CONSTRAINT conversation_embeddings_check2 CHECK (((action = 'said'::text) = (changed_at IS NULL))),
    CONSTRAINT conversation_embeddings_check3 CHECK (((action <> 'said'::text) OR (turn_id = id))),
    CONSTRAINT conversation_embeddings_check4 CHECK (((placed_from IS NULL) OR ((action = 'edited'::text) AND (event_id IS NULL)))),
    CONSTRAINT conversation_embeddings_check5 CHECK (((action = 'deleted'::text) = (content = ''::text))),
    CONSTRAINT conversation_embeddings_content_check CHECK ((char_length(content) <= 32768)),
    CONSTRAINT conversation_embeddings_conversation_id_check CHECK (((char_length(conversation_id) >= 1) AND (char_length(conversation_id) <= 256))),
    CONSTRAINT conversation_embeddings_event_id_check CHECK (((char_length(event_id) >= 1) AND (char_length(event_id) <= 256))),
    CONSTRAINT conversation_embeddings_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT conversation_embeddings_role_check CHECK ((role = ANY (ARRAY['user'::text, 'assistant'::text, 'system'::text, 'tool'::text]))),
    CONSTRAINT conversation_embeddings_source_check CHECK (((char_length(source) >= 1) AND (char_length(source) <= 256))),
    CONSTRAINT conversation_embeddings_user_id_check CHECK (((char_length(user_id) >= 1) AND (char_length(user_id) <= 256)))
)
WITH (autovacuum_vacuum_insert_scale_factor='0.02', autovacuum_vacuum_insert_threshold='5000', autovacuum_analyze_scale_factor='0.02');
ALTER TABLE ONLY public.conversation_embeddings ALTER COLUMN speaker_name SET STATISTICS 0;
ALTER TABLE ONLY public.conversation_embeddings ALTER COLUMN content SET STATISTICS 0;
ALTER TABLE ONLY public.conversation_embeddings ALTER COLUMN metadata SET STATISTICS 0;
ALTER TABLE ONLY public.conversation_embeddings ALTER COLUMN lexemes SET STATISTICS 0;
ALTER TABLE ONLY public.conversation_embeddings ALTER COLUMN lexemes SET STORAGE MAIN;
ALTER TABLE ONLY public.conversation_embeddings ALTER COLUMN embedding SET STATISTICS 0;
ALTER TABLE ONLY public.conversation_embeddings ALTER COLUMN embedding_half SET STATISTICS 0;
ALTER TABLE ONLY public.conversation_embeddings ALTER COLUMN embedding_half SET STORAGE PLAIN;

ALTER TABLE ONLY public.conversation_embeddings FORCE ROW LEVEL SECURITY;

CREATE TABLE public.digest_keys (
    tenant_id uuid NOT NULL,
    key bytea NOT NULL,
    CONSTRAINT digest_keys_key_check CHECK ((octet_length(key) = 32))
);

ALTER TABLE ONLY public.digest_keys FORCE ROW LEVEL SECURITY;

CREATE TABLE public.document_chunks (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    document_id uuid NOT NULL,
    chunk_index integer NOT NULL,
    user_id text NOT NULL,
    is_global boolean NOT NULL,
    document_type text NOT NULL,
    title text DEFAULT ''::text NOT NULL,
    content text NOT NULL,
    start_char integer NOT NULL,
    end_char integer NOT NULL,
    heading_path text[] DEFAULT '{}'::text[] NOT NULL,
    page_number integer DEFAULT 0 NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    language text DEFAULT 'english'::text NOT NULL,
    token_count integer NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    model_id smallint NOT NULL,
    visible_to text GENERATED ALWAYS AS (
CASE
    WHEN is_global THEN ''::text
    ELSE user_id
END) STORED NOT NULL,
    lexemes tsvector GENERATED ALWAYS AS (public.text_lexemes(language, public.chunk_words(title, heading_path, content))) STORED NOT NULL,
    embedding public.vector(384) NOT NULL,
    embedding_half public.halfvec(384) GENERATED ALWAYS AS ((embedding)::public.halfvec(384)) STORED NOT NULL,
    CONSTRAINT document_chunks_check CHECK ((end_char > start_char)),
    CONSTRAINT document_chunks_chunk_index_check CHECK ((chunk_index >= 0)),
    CONSTRAINT document_chunks_page_number_check CHECK ((page_number >= 0)),
    CONSTRAINT document_chunks_start_char_check CHECK ((start_char >= 0))
)
WITH (autovacuum_vacuum_insert_scale_factor='0.02', autovacuum_vacuum_insert_threshold='2000', autovacuum_vacuum_scale_factor='0.05', autovacuum_analyze_scale_factor='0.05');
ALTER TABLE ONLY public.document_chunks ALTER COLUMN title SET STATISTICS 0;
ALTER TABLE ONLY public.document_chunks ALTER COLUMN content SET STATISTICS 0;
ALTER TABLE ONLY public.document_chunks ALTER COLUMN heading_path SET STATISTICS 0;
ALTER TABLE ONLY public.document_chunks ALTER COLUMN metadata SET STATISTICS 0;
ALTER TABLE ONLY public.document_chunks ALTER COLUMN lexemes SET STORAGE MAIN;
ALTER TABLE ONLY public.document_chunks ALTER COLUMN embedding SET STATISTICS 0;

ALTER TABLE ONLY public.document_chunks FORCE ROW LEVEL SECURITY;

CREATE TABLE public.documents (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    document_key text NOT NULL,
    user_id text DEFAULT ''::text NOT NULL,
    is_global boolean DEFAULT false NOT NULL,
    document_type text NOT NULL,
    title text DEFAULT ''::text NOT NULL,
    content text NOT NULL,
    content_characters integer GENERATED ALWAYS AS (char_length(content)) STORED NOT NULL,
    content_sha256 bytea NOT NULL,
    recipe_sha256 bytea NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    language text DEFAULT 'english'::text NOT NULL,
    chunk_count integer NOT NULL,
    job_id uuid NOT NULL,
    submitted_at timestamp with time zone NOT NULL,
    occurred_at timestamp with time zone DEFAULT now() NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT documents_check CHECK (((user_id <> ''::text) OR is_global)),
    CONSTRAINT documents_chunk_count_check CHECK ((chunk_count >= 0)),
    CONSTRAINT documents_content_sha256_check CHECK ((octet_length(content_sha256) = 32)),
    CONSTRAINT documents_document_key_check CHECK (((char_length(document_key) >= 1) AND (char_length(document_key) <= 1024))),
    CONSTRAINT documents_document_type_check CHECK ((document_type = ANY (ARRAY['text'::text, 'markdown'::text, 'html'::text, 'pdf'::text, 'code'::text]))),
    CONSTRAINT documents_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT documents_recipe_sha256_check CHECK ((octet_length(recipe_sha256) = 32)),
    CONSTRAINT documents_user_id_check CHECK ((char_length(user_id) <= 256))
);
ALTER TABLE ONLY public.documents ALTER COLUMN title SET STATISTICS 0;
ALTER TABLE ONLY public.documents ALTER COLUMN content SET STATISTICS 0;
ALTER TABLE ONLY public.documents ALTER COLUMN metadata SET STATISTICS 0;

ALTER TABLE ONLY public.documents FORCE ROW LEVEL SECURITY;

CREATE TABLE public.embedding_models (
    id smallint NOT NULL,
    name text NOT NULL,
    "precision" text NOT NULL,
    sha256 text NOT NULL,
    dimensions integer NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT embedding_models_dimensions_check CHECK ((dimensions > 0)),
    CONSTRAINT embedding_models_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text))
);

ALTER TABLE public.embedding_models ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.embedding_models_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.erasures (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL,
    status text DEFAULT 'running'::text NOT NULL,
    subject jsonb,
    subject_digest text NOT NULL,
    request_digest text,
    requested_by text NOT NULL,
    reason text NOT NULL,
    requested_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    completed_at timestamp with time zone,
    vacuumed_at timestamp with time zone,
    erased jsonb DEFAULT '{}'::jsonb NOT NULL,
    remaining_rows bigint DEFAULT 0 NOT NULL,
    error text DEFAULT ''::text NOT NULL,
    lease_owner uuid,
    lease_expires_at timestamp with time zone,
    CONSTRAINT erasures_check CHECK ((((status = 'completed'::text) = (subject IS NULL)) AND ((status = 'completed'::text) = (completed_at IS NOT NULL)))),
    CONSTRAINT erasures_kind_check CHECK ((kind = ANY (ARRAY['user'::text, 'conversation'::text, 'tenant'::text]))),
    CONSTRAINT erasures_reason_check CHECK ((char_length(reason) <= 512)),
    CONSTRAINT erasures_request_digest_check CHECK ((request_digest ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT erasures_status_check CHECK ((status = ANY (ARRAY['running'::text, 'completed'::text, 'failed'::text]))),
    CONSTRAINT erasures_subject_digest_check CHECK ((subject_digest ~ '^[0-9a-f]{64}$'::text))
);

ALTER TABLE ONLY public.erasures FORCE ROW LEVEL SECURITY;

CREATE TABLE public.ingestion_job_documents (
    tenant_id uuid NOT NULL,
    job_id uuid NOT NULL,
    "position" integer NOT NULL,
    document_key text NOT NULL,
    user_id text NOT NULL,
    is_global boolean NOT NULL,
    document_type text,
    title text DEFAULT ''::text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    language text NOT NULL,
    occurred_at timestamp with time zone,
    raw bytea,
    raw_sha256 bytea NOT NULL,
    recipe_sha256 bytea NOT NULL,
    status text DEFAULT 'queued'::text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    document_id uuid,
    CONSTRAINT ingestion_job_documents_check CHECK (((user_id <> ''::text) OR is_global)),
    CONSTRAINT ingestion_job_documents_check1 CHECK (((raw IS NULL) = (status <> 'queued'::text))),
    CONSTRAINT ingestion_job_documents_document_key_check CHECK (((char_length(document_key) >= 1) AND (char_length(document_key) <= 1024))),
    CONSTRAINT ingestion_job_documents_document_type_check CHECK ((document_type = ANY (ARRAY['text'::text, 'markdown'::text, 'html'::text, 'pdf'::text, 'code'::text]))),
    CONSTRAINT ingestion_job_documents_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT ingestion_job_documents_position_check CHECK (("position" >= 0)),
    CONSTRAINT ingestion_job_documents_raw_sha256_check CHECK ((octet_length(raw_sha256) = 32)),
    CONSTRAINT ingestion_job_documents_recipe_sha256_check CHECK ((octet_length(recipe_sha256) = 32)),
    CONSTRAINT ingestion_job_documents_status_check CHECK ((status = ANY (ARRAY['queued'::text, 'completed'::text, 'unchanged'::text, 'failed'::text, 'cancelled'::text]))),
    CONSTRAINT ingestion_job_documents_user_id_check CHECK ((char_length(user_id) <= 256))
);
ALTER TABLE ONLY public.ingestion_job_documents ALTER COLUMN title SET STATISTICS 0;
ALTER TABLE ONLY public.ingestion_job_documents ALTER COLUMN metadata SET STATISTICS 0;
ALTER TABLE ONLY public.ingestion_job_documents ALTER COLUMN raw SET STATISTICS 0;
ALTER TABLE ONLY public.ingestion_job_documents ALTER COLUMN raw SET STORAGE EXTERNAL;

ALTER TABLE ONLY public.ingestion_job_documents FORCE ROW LEVEL SECURITY;

CREATE TABLE public.ingestion_jobs (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    status text DEFAULT 'queued'::text NOT NULL,
    receiving boolean DEFAULT false NOT NULL,
    total integer DEFAULT 0 NOT NULL,
    processed integer DEFAULT 0 NOT NULL,
    failed integer DEFAULT 0 NOT NULL,
    unchanged integer DEFAULT 0 NOT NULL,
    progress_percent double precision GENERATED ALWAYS AS (
CASE
    WHEN (total = 0) THEN (100)::numeric
    ELSE ((((processed + failed))::numeric * 100.0) / (total)::numeric)
END) STORED NOT NULL,
    errors jsonb DEFAULT '[]'::jsonb NOT NULL,
    cancelled boolean DEFAULT false NOT NULL,
    request_id text,
    requested_by text NOT NULL,
    lease_owner uuid,
    lease_expires_at timestamp with time zone,
    claimed_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    CONSTRAINT ingestion_jobs_check CHECK ((receiving OR ((status = ANY (ARRAY['queued'::text, 'processing'::text])) = (finished_at IS NULL)))),
    CONSTRAINT ingestion_jobs_errors_check CHECK ((jsonb_typeof(errors) = 'array'::text)),
    CONSTRAINT ingestion_jobs_failed_check CHECK ((failed >= 0)),
    CONSTRAINT ingestion_jobs_processed_check CHECK ((processed >= 0)),
    CONSTRAINT ingestion_jobs_request_id_check CHECK (((char_length(request_id) >= 1) AND (char_length(request_id) <= 256))),
    CONSTRAINT ingestion_jobs_status_check CHECK ((status = ANY (ARRAY['queued'::text, 'processing'::text, 'completed'::text, 'failed'::text, 'partial'::text]))),
    CONSTRAINT ingestion_jobs_total_check CHECK ((total >= 0)),
    CONSTRAINT ingestion_jobs_unchanged_check CHECK ((unchanged >= 0))
);

ALTER TABLE ONLY public.ingestion_jobs FORCE ROW LEVEL SECURITY;

CREATE TABLE public.superseded_turns (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    agent_id uuid NOT NULL,
    user_id text NOT NULL,
    superseded_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY public.superseded_turns FORCE ROW LEVEL SECURITY;

CREATE TABLE public.turn_speakers (
    tenant_id uuid NOT NULL,
    user_id text NOT NULL,
    agent_id uuid NOT NULL,
    role text NOT NULL,
    speaker_name text NOT NULL
);

ALTER TABLE ONLY public.turn_speakers FORCE ROW LEVEL SECURITY;

CREATE TABLE public.user_memories (
    tenant_id uuid NOT NULL,
    user_id text NOT NULL,
    agent_id uuid DEFAULT '00000000-0000-0000-0000-000000000000'::uuid NOT NULL,
    memory text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    revision bigint NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_by text NOT NULL,
    CONSTRAINT user_memories_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT user_memories_revision_check CHECK ((revision >= 1)),
    CONSTRAINT user_memories_user_id_check CHECK (((char_length(user_id) >= 1) AND (char_length(user_id) <= 256)))
);
ALTER TABLE ONLY public.user_memories ALTER COLUMN memory SET STATISTICS 0;
ALTER TABLE ONLY public.user_memories ALTER COLUMN metadata SET STATISTICS 0;

ALTER TABLE ONLY public.user_memories FORCE ROW LEVEL SECURITY;

CREATE TABLE public.user_memory_archive (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    user_id text NOT NULL,
    agent_id uuid NOT NULL,
    revision bigint NOT NULL,
    passage text NOT NULL,
    archived_at timestamp with time zone DEFAULT now() NOT NULL,
    model_id smallint NOT NULL,
    embedding public.vector(384) NOT NULL
);
ALTER TABLE ONLY public.user_memory_archive ALTER COLUMN passage SET STATISTICS 0;
ALTER TABLE ONLY public.user_memory_archive ALTER COLUMN embedding SET STATISTICS 0;

ALTER TABLE ONLY public.user_memory_archive FORCE ROW LEVEL SECURITY;

CREATE TABLE public.user_memory_revisions (
    tenant_id uuid NOT NULL,
    user_id text NOT NULL,
    agent_id uuid NOT NULL,
    revision bigint NOT NULL,
    memory text NOT NULL,
    metadata jsonb NOT NULL,
    request_id text,
    request_sha256 bytea,
    updated_at timestamp with time zone NOT NULL,
    updated_by text NOT NULL,
    CONSTRAINT user_memory_revisions_check CHECK (((request_id IS NULL) = (request_sha256 IS NULL))),
    CONSTRAINT user_memory_revisions_request_id_check CHECK (((char_length(request_id) >= 1) AND (char_length(request_id) <= 256))),
    CONSTRAINT user_memory_revisions_request_sha256_check CHECK ((octet_length(request_sha256) = 32)),
    CONSTRAINT user_memory_revisions_revision_check CHECK ((revision >= 1))
);
ALTER TABLE ONLY public.user_memory_revisions ALTER COLUMN memory SET STATISTICS 0;
ALTER TABLE ONLY public.user_memory_revisions ALTER COLUMN metadata SET STATISTICS 0;

ALTER TABLE ONLY public.user_memory_revisions FORCE ROW LEVEL SECURITY;

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT api_tokens_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT api_tokens_secret_sha256_key UNIQUE (secret_sha256);

ALTER TABLE ONLY public.audit_events
    ADD CONSTRAINT audit_events_pkey PRIMARY KEY (tenant_id, sequence);

ALTER TABLE ONLY public.conversation_embeddings
    ADD CONSTRAINT conversation_embeddings_pkey PRIMARY KEY (tenant_id, id);

ALTER TABLE ONLY public.digest_keys
    ADD CONSTRAINT digest_keys_pkey PRIMARY KEY (tenant_id);

ALTER TABLE ONLY public.document_chunks
    ADD CONSTRAINT document_chunks_pkey PRIMARY KEY (tenant_id, id);

ALTER TABLE ONLY public.document_chunks
    ADD CONSTRAINT document_chunks_tenant_id_document_id_chunk_index_key UNIQUE (tenant_id, document_id, chunk_index);

ALTER TABLE ONLY public.documents
    ADD CONSTRAINT documents_pkey PRIMARY KEY (tenant_id, id);

ALTER TABLE ONLY public.documents
    ADD CONSTRAINT documents_tenant_id_user_id_document_key_key UNIQUE (tenant_id, user_id, document_key);

ALTER TABLE ONLY public.embedding_models
    ADD CONSTRAINT embedding_models_name_precision_sha256_key UNIQUE (name, "precision", sha256);

ALTER TABLE ONLY public.embedding_models
    ADD CONSTRAINT embedding_models_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.erasures
    ADD CONSTRAINT erasures_pkey PRIMARY KEY (tenant_id, id);

ALTER TABLE ONLY public.ingestion_job_documents
    ADD CONSTRAINT ingestion_job_documents_pkey PRIMARY KEY (tenant_id, job_id, "position");

ALTER TABLE ONLY public.ingestion_job_documents
    ADD CONSTRAINT ingestion_job_documents_tenant_id_job_id_user_id_document_k_key UNIQUE (tenant_id, job_id, user_id, document_key);

ALTER TABLE ONLY public.ingestion_jobs
    ADD CONSTRAINT ingestion_jobs_pkey PRIMARY KEY (tenant_id, id);

ALTER TABLE ONLY public.superseded_turns
    ADD CONSTRAINT superseded_turns_pkey PRIMARY KEY (tenant_id, id);

ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT tenants_name_key UNIQUE (name);

ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.turn_speakers
    ADD CONSTRAINT turn_speakers_pkey PRIMARY KEY (tenant_id, user_id, agent_id, role, speaker_name);

ALTER TABLE ONLY public.user_memories
    ADD CONSTRAINT user_memories_pkey PRIMARY KEY (tenant_id, user_id, agent_id);

ALTER TABLE ONLY public.user_memory_archive
    ADD CONSTRAINT user_memory_archive_pkey PRIMARY KEY (tenant_id, id);

ALTER TABLE ONLY public.user_memory_revisions
    ADD CONSTRAINT user_memory_revisions_pkey PRIMARY KEY (tenant_id, user_id, agent_id, revision);

CREATE INDEX api_tokens_tenant ON public.api_tokens USING btree (tenant_id, created_at DESC, id);

CREATE INDEX conversation_embeddings_conversation ON public.conversation_embeddings USING btree (tenant_id, conversation_id, occurred_at, id);

CREATE UNIQUE INDEX conversation_embeddings_event ON public.conversation_embeddings USING btree (tenant_id, agent_id, user_id, source, event_id) WHERE (event_id IS NOT NULL);

CREATE INDEX conversation_embeddings_scope ON public.conversation_embeddings USING btree (tenant_id, agent_id, user_id, created_at DESC) INCLUDE (id, model_id, occurred_at, role, embedding_half);

CREATE INDEX conversation_embeddings_speaker ON public.conversation_embeddings USING btree (tenant_id, speaker_id) WHERE ((speaker_id <> ''::text) AND (user_id <> speaker_id));

CREATE INDEX conversation_embeddings_target ON public.conversation_embeddings USING btree (tenant_id, agent_id, user_id, target_source, target_event_id) WHERE (target_event_id IS NOT NULL);

CREATE INDEX conversation_embeddings_user ON public.conversation_embeddings USING btree (tenant_id, user_id, occurred_at, id);

CREATE INDEX document_chunks_lexemes ON public.document_chunks USING gin (tenant_id, lexemes) WITH (fastupdate=off);

CREATE INDEX document_chunks_vectors ON public.document_chunks USING btree (tenant_id, visible_to) INCLUDE (embedding_half, model_id, document_id, document_type, occurred_at, id);

CREATE INDEX documents_created ON public.documents USING btree (tenant_id, created_at DESC, id);

CREATE INDEX documents_language ON public.documents USING btree (tenant_id, language);

CREATE INDEX erasures_open ON public.erasures USING btree (requested_at) WHERE (status = 'running'::text);

CREATE UNIQUE INDEX erasures_request ON public.erasures USING btree (tenant_id, request_digest) WHERE (request_digest IS NOT NULL);

CREATE INDEX erasures_unvacuumed ON public.erasures USING btree (completed_at) WHERE (vacuumed_at IS NULL);

CREATE INDEX ingestion_jobs_claimed ON public.ingestion_jobs USING btree (tenant_id, claimed_at DESC) WHERE (claimed_at IS NOT NULL);

CREATE INDEX ingestion_jobs_created ON public.ingestion_jobs USING btree (tenant_id, created_at DESC, id DESC);

CREATE INDEX ingestion_jobs_open ON public.ingestion_jobs USING btree (created_at) WHERE (status = ANY (ARRAY['queued'::text, 'processing'::text]));

CREATE UNIQUE INDEX ingestion_jobs_request ON public.ingestion_jobs USING btree (tenant_id, request_id) WHERE (request_id IS NOT NULL);

CREATE INDEX superseded_turns_scope ON public.superseded_turns USING btree (tenant_id, user_id, agent_id) INCLUDE (id, superseded_at);

CREATE INDEX user_memory_archive_user ON public.user_memory_archive USING btree (tenant_id, user_id, agent_id);

CREATE UNIQUE INDEX user_memory_revisions_request ON public.user_memory_revisions USING btree (tenant_id, user_id, agent_id, request_id) WHERE (request_id IS NOT NULL);

CREATE STATISTICS public.conversation_embeddings_dependencies (dependencies) ON tenant_id, agent_id, user_id, conversation_id FROM public.conversation_embeddings;

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_events FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.conversation_embeddings FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.superseded_turns FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.user_memory_archive FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.user_memory_revisions FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT api_tokens_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.conversation_embeddings
    ADD CONSTRAINT conversation_embeddings_model_id_fkey FOREIGN KEY (model_id) REFERENCES public.embedding_models(id);

ALTER TABLE ONLY public.conversation_embeddings
    ADD CONSTRAINT conversation_embeddings_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.digest_keys
    ADD CONSTRAINT digest_keys_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.document_chunks
    ADD CONSTRAINT document_chunks_model_id_fkey FOREIGN KEY (model_id) REFERENCES public.embedding_models(id);

ALTER TABLE ONLY public.document_chunks
    ADD CONSTRAINT document_chunks_tenant_id_document_id_fkey FOREIGN KEY (tenant_id, document_id) REFERENCES public.documents(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.document_chunks
    ADD CONSTRAINT document_chunks_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.documents
    ADD CONSTRAINT documents_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.ingestion_job_documents
    ADD CONSTRAINT ingestion_job_documents_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.ingestion_job_documents
    ADD CONSTRAINT ingestion_job_documents_tenant_id_job_id_fkey FOREIGN KEY (tenant_id, job_id) REFERENCES public.ingestion_jobs(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.ingestion_jobs
    ADD CONSTRAINT ingestion_jobs_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.superseded_turns
    ADD CONSTRAINT superseded_turns_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.superseded_turns
    ADD CONSTRAINT superseded_turns_tenant_id_id_fkey FOREIGN KEY (tenant_id, id) REFERENCES public.conversation_embeddings(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.turn_speakers
    ADD CONSTRAINT turn_speakers_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.user_memories
    ADD CONSTRAINT user_memories_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.user_memory_archive
    ADD CONSTRAINT user_memory_archive_model_id_fkey FOREIGN KEY (model_id) REFERENCES public.embedding_models(id);

ALTER TABLE ONLY public.user_memory_archive
    ADD CONSTRAINT user_memory_archive_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.user_memory_archive
    ADD CONSTRAINT user_memory_archive_tenant_id_user_id_agent_id_fkey FOREIGN KEY (tenant_id, user_id, agent_id) REFERENCES public.user_memories(tenant_id, user_id, agent_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.user_memory_revisions
    ADD CONSTRAINT user_memory_revisions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.user_memory_revisions
    ADD CONSTRAINT user_memory_revisions_tenant_id_user_id_agent_id_fkey FOREIGN KEY (tenant_id, user_id, agent_id) REFERENCES public.user_memories(tenant_id, user_id, agent_id) ON DELETE CASCADE;

ALTER TABLE public.api_tokens ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.audit_events ENABLE ROW LEVEL SECURITY;

CREATE POLICY control_plane ON public.api_tokens TO memsidecar_control USING (true);

CREATE POLICY control_plane ON public.audit_events TO memsidecar_control USING (true);

CREATE POLICY control_plane ON public.erasures TO memsidecar_control USING (true);

CREATE POLICY control_plane ON public.ingestion_jobs TO memsidecar_control USING (true);

CREATE POLICY control_plane ON public.tenants TO memsidecar_control USING (true);

ALTER TABLE public.conversation_embeddings ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.digest_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.document_chunks ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.documents ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.erasures ENABLE ROW LEVEL SECURITY;

CREATE POLICY hybrid_search ON public.document_chunks FOR SELECT TO memsidecar_search USING (true);

CREATE POLICY hybrid_search ON public.documents FOR SELECT TO memsidecar_search USING (true);

ALTER TABLE public.ingestion_job_documents ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.ingestion_jobs ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.superseded_turns ENABLE ROW LEVEL SECURITY;

CREATE POLICY tenant_isolation ON public.api_tokens USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));

CREATE POLICY tenant_isolation ON public.audit_events USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));

CREATE POLICY tenant_isolation ON public.conversation_embeddings USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));

CREATE POLICY tenant_isolation ON public.digest_keys USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));

CREATE POLICY tenant_isolation ON public.document_chunks USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));

CREATE POLICY tenant_isolation ON public.documents USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));

CREATE POLICY tenant_isolation ON public.erasures USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));

CREATE POLICY tenant_isolation ON public.ingestion_job_documents USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));

CREATE POLICY tenant_isolation ON public.ingestion_jobs USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));

CREATE POLICY tenant_isolation ON public.superseded_turns USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));

CREATE POLICY tenant_isolation ON public.tenants USING ((id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));

CREATE POLICY tenant_isolation ON public.turn_speakers USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));

CREATE POLICY tenant_isolation ON public.user_memories USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));

CREATE POLICY tenant_isolation ON public.user_memory_archive USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));

CREATE POLICY tenant_isolation ON public.user_memory_revisions USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));

ALTER TABLE public.tenants ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.turn_speakers ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.user_memories ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.user_memory_archive ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.user_memory_revisions ENABLE ROW LEVEL SECURITY;

GRANT USAGE ON SCHEMA public TO memsidecar_app;
GRANT USAGE ON SCHEMA public TO memsidecar_control;
GRANT USAGE ON SCHEMA public TO memsidecar_eraser;
GRANT USAGE ON SCHEMA public TO memsidecar_search;

REVOKE ALL ON FUNCTION public.claim_erasure(worker uuid, lease_seconds integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.claim_erasure(worker uuid, lease_seconds integer) TO memsidecar_eraser;
GRANT ALL ON FUNCTION public.claim_erasure(worker uuid, lease_seconds integer) TO memsidecar_app;

REVOKE ALL ON FUNCTION public.claim_ingestion_job(worker uuid, lease_seconds integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.claim_ingestion_job(worker uuid, lease_seconds integer) TO memsidecar_app;

GRANT SELECT ON TABLE public.tenants TO memsidecar_app;
GRANT SELECT,DELETE,MAINTAIN ON TABLE public.tenants TO memsidecar_eraser;
GRANT SELECT,INSERT,UPDATE ON TABLE public.tenants TO memsidecar_control;

REVOKE ALL ON FUNCTION public.create_tenant(new_id uuid, new_name text, new_language text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.create_tenant(new_id uuid, new_name text, new_language text) TO memsidecar_app;

GRANT SELECT ON TABLE public.api_tokens TO memsidecar_app;
GRANT SELECT,DELETE,MAINTAIN ON TABLE public.api_tokens TO memsidecar_eraser;
GRANT SELECT,INSERT,UPDATE ON TABLE public.api_tokens TO memsidecar_control;

REVOKE ALL ON FUNCTION public.create_token(new_id uuid, new_tenant uuid, new_name text, new_secret_sha256 bytea, new_rights text[], new_agent_ids uuid[], new_expires_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION public.create_token(new_id uuid, new_tenant uuid, new_name text, new_secret_sha256 bytea, new_rights text[], new_agent_ids uuid[], new_expires_at timestamp with time zone) TO memsidecar_app;

REVOKE ALL ON FUNCTION public.drop_abandoned_ingestion_jobs() FROM PUBLIC;
GRANT ALL ON FUNCTION public.drop_abandoned_ingestion_jobs() TO memsidecar_app;

REVOKE ALL ON FUNCTION public.end_token(wanted_id uuid, wanted_tenant uuid, any_tenant boolean, new_revoked_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION public.end_token(wanted_id uuid, wanted_tenant uuid, any_tenant boolean, new_revoked_at timestamp with time zone) TO memsidecar_app;

REVOKE ALL ON FUNCTION public.find_erasure(wanted_id uuid, wanted_tenant uuid, any_tenant boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION public.find_erasure(wanted_id uuid, wanted_tenant uuid, any_tenant boolean) TO memsidecar_eraser;
GRANT ALL ON FUNCTION public.find_erasure(wanted_id uuid, wanted_tenant uuid, any_tenant boolean) TO memsidecar_app;

REVOKE ALL ON FUNCTION public.find_tenant(wanted_id uuid, wanted_name text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.find_tenant(wanted_id uuid, wanted_name text) TO memsidecar_app;

REVOKE ALL ON FUNCTION public.find_token(wanted_secret_sha256 bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION public.find_token(wanted_secret_sha256 bytea) TO memsidecar_app;

REVOKE ALL ON FUNCTION public.hybrid_search(query text, query_embedding public.vector, top_k integer, for_user text, whole_tenant boolean, exclude_global boolean, document_types text[], document_ids uuid[], metadata_contains jsonb, occurred_from timestamp with time zone, occurred_until timestamp with time zone, model smallint, vector_weight double precision, lexical_weight double precision, candidates integer, by_document boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION public.hybrid_search(query text, query_embedding public.vector, top_k integer, for_user text, whole_tenant boolean, exclude_global boolean, document_types text[], document_ids uuid[], metadata_contains jsonb, occurred_from timestamp with time zone, occurred_until timestamp with time zone, model smallint, vector_weight double precision, lexical_weight double precision, candidates integer, by_document boolean) TO memsidecar_app;

REVOKE ALL ON FUNCTION public.ingestion_backlog() FROM PUBLIC;
GRANT ALL ON FUNCTION public.ingestion_backlog() TO memsidecar_app;

REVOKE ALL ON FUNCTION public.list_tenants(after_name text, row_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.list_tenants(after_name text, row_limit integer) TO memsidecar_eraser;
GRANT ALL ON FUNCTION public.list_tenants(after_name text, row_limit integer) TO memsidecar_app;

REVOKE ALL ON FUNCTION public.list_tokens(wanted_tenant uuid, before_created_at timestamp with time zone, before_id uuid, row_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.list_tokens(wanted_tenant uuid, before_created_at timestamp with time zone, before_id uuid, row_limit integer) TO memsidecar_app;

REVOKE ALL ON FUNCTION public.mark_erasures_vacuumed(vacuum_began_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION public.mark_erasures_vacuumed(vacuum_began_at timestamp with time zone) TO memsidecar_eraser;
GRANT ALL ON FUNCTION public.mark_erasures_vacuumed(vacuum_began_at timestamp with time zone) TO memsidecar_app;

REVOKE ALL ON FUNCTION public.record_audit_event(trail uuid, new_actor text, new_action text, new_subject text, new_details text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.record_audit_event(trail uuid, new_actor text, new_action text, new_subject text, new_details text) TO memsidecar_eraser;
GRANT ALL ON FUNCTION public.record_audit_event(trail uuid, new_actor text, new_action text, new_subject text, new_details text) TO memsidecar_app;

REVOKE ALL ON FUNCTION public.unvacuumed_tables() FROM PUBLIC;
GRANT ALL ON FUNCTION public.unvacuumed_tables() TO memsidecar_eraser;
GRANT ALL ON FUNCTION public.unvacuumed_tables() TO memsidecar_app;

REVOKE ALL ON FUNCTION public.update_tenant(changed public.tenants) FROM PUBLIC;
GRANT ALL ON FUNCTION public.update_tenant(changed public.tenants) TO memsidecar_app;

GRANT SELECT ON TABLE public.alembic_version TO memsidecar_app;

GRANT SELECT ON TABLE public.audit_events TO memsidecar_app;
GRANT SELECT,DELETE,MAINTAIN ON TABLE public.audit_events TO memsidecar_eraser;
GRANT SELECT,INSERT ON TABLE public.audit_events TO memsidecar_control;

GRANT SELECT,INSERT ON TABLE public.conversation_embeddings TO memsidecar_app;
GRANT SELECT,DELETE,MAINTAIN ON TABLE public.conversation_embeddings TO memsidecar_eraser;

GRANT SELECT,INSERT ON TABLE public.digest_keys TO memsidecar_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN ON TABLE public.digest_keys TO memsidecar_eraser;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.document_chunks TO memsidecar_app;
GRANT SELECT,DELETE,MAINTAIN ON TABLE public.document_chunks TO memsidecar_eraser;
GRANT SELECT ON TABLE public.document_chunks TO memsidecar_search;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.documents TO memsidecar_app;
GRANT SELECT,DELETE,MAINTAIN ON TABLE public.documents TO memsidecar_eraser;
GRANT SELECT ON TABLE public.documents TO memsidecar_search;

GRANT SELECT,INSERT ON TABLE public.embedding_models TO memsidecar_app;

GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE public.erasures TO memsidecar_eraser;
GRANT SELECT,UPDATE ON TABLE public.erasures TO memsidecar_control;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ingestion_job_documents TO memsidecar_app;
GRANT SELECT,DELETE,MAINTAIN ON TABLE public.ingestion_job_documents TO memsidecar_eraser;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ingestion_jobs TO memsidecar_app;
GRANT SELECT,DELETE,MAINTAIN,UPDATE ON TABLE public.ingestion_jobs TO memsidecar_eraser;
GRANT SELECT,DELETE,UPDATE ON TABLE public.ingestion_jobs TO memsidecar_control;

GRANT SELECT,INSERT ON TABLE public.superseded_turns TO memsidecar_app;
GRANT SELECT,DELETE,MAINTAIN ON TABLE public.superseded_turns TO memsidecar_eraser;

GRANT SELECT,INSERT ON TABLE public.turn_speakers TO memsidecar_app;
GRANT SELECT,DELETE,MAINTAIN ON TABLE public.turn_speakers TO memsidecar_eraser;

GRANT SELECT,INSERT,UPDATE ON TABLE public.user_memories TO memsidecar_app;
GRANT SELECT,DELETE,MAINTAIN ON TABLE public.user_memories TO memsidecar_eraser;

GRANT SELECT,INSERT ON TABLE public.user_memory_archive TO memsidecar_app;
GRANT SELECT,DELETE,MAINTAIN ON TABLE public.user_memory_archive TO memsidecar_eraser;

GRANT SELECT,INSERT ON TABLE public.user_memory_revisions TO memsidecar_app;
GRANT SELECT,DELETE,MAINTAIN ON TABLE public.user_memory_revisions TO memsidecar_eraser;
