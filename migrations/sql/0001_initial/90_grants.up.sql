-- What each role may do. Nothing is granted to PUBLIC.
GRANT SELECT, INSERT ON conversation_embeddings, superseded_turns, turn_speakers TO memsidecar_app;
GRANT SELECT, INSERT, UPDATE ON user_memories TO memsidecar_app;
GRANT SELECT, INSERT ON user_memory_revisions, user_memory_archive TO memsidecar_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON documents, document_chunks TO memsidecar_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ingestion_jobs, ingestion_job_documents TO memsidecar_app;
GRANT SELECT ON tenants, embedding_models TO memsidecar_app;
GRANT INSERT ON embedding_models TO memsidecar_app;
GRANT SELECT ON api_tokens, audit_events TO memsidecar_app;
GRANT SELECT, INSERT ON digest_keys TO memsidecar_app;

GRANT SELECT, DELETE ON
    tenants, api_tokens, conversation_embeddings, superseded_turns, turn_speakers, user_memories,
    user_memory_revisions, user_memory_archive, documents, document_chunks, ingestion_jobs, ingestion_job_documents,
    audit_events, digest_keys, erasures
    TO memsidecar_eraser;
GRANT INSERT ON digest_keys TO memsidecar_eraser;
GRANT INSERT, UPDATE ON erasures TO memsidecar_eraser;
GRANT UPDATE ON ingestion_jobs TO memsidecar_eraser;

GRANT SELECT, INSERT, UPDATE ON tenants, api_tokens TO memsidecar_control;
GRANT SELECT, UPDATE, DELETE ON ingestion_jobs TO memsidecar_control;
GRANT SELECT, INSERT ON audit_events TO memsidecar_control;
GRANT SELECT, UPDATE ON erasures TO memsidecar_control;

GRANT SELECT ON alembic_version TO memsidecar_app;
GRANT SELECT ON documents, document_chunks TO memsidecar_search;

-- Functions of the control plane that the eraser calls too; granted while they are still the owner's.
GRANT EXECUTE ON FUNCTION
    record_audit_event(uuid, text, text, text, text), claim_erasure(uuid, integer), find_erasure(uuid, uuid, boolean),
    unvacuumed_tables(), mark_erasures_vacuumed(timestamptz), list_tenants(text, integer)
    TO memsidecar_eraser;

-- Definer functions belong to the role they run as and are called by the app role. A new owner of a function needs
-- CREATE on its schema while the ownership changes hands, and not a moment longer. pg_temp comes last in their path, or a
-- caller's temporary table could take the place of a real one.
DO $$
DECLARE
    vector_schema CONSTANT text := (
        SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'
    );
    definer record;
BEGIN
    EXECUTE format('GRANT CREATE ON SCHEMA %I TO memsidecar_control, memsidecar_search', current_schema());
    FOR definer IN
        SELECT
            function.oid::regprocedure AS signature,
            CASE WHEN function.proname = 'hybrid_search' THEN 'memsidecar_search' ELSE 'memsidecar_control' END AS role
        FROM pg_proc AS function
        WHERE function.pronamespace = current_schema()::regnamespace AND function.prosecdef
    LOOP
        EXECUTE format(
            'ALTER FUNCTION %s SET search_path = %I, %s, pg_temp', definer.signature, current_schema(), vector_schema
        );
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', definer.signature);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO memsidecar_app', definer.signature);
        EXECUTE format('ALTER FUNCTION %s OWNER TO %I', definer.signature, definer.role);
    END LOOP;
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM memsidecar_control, memsidecar_search', current_schema());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO memsidecar_app, memsidecar_control, memsidecar_eraser, memsidecar_search',
                   current_schema());
END
$$;

-- From Postgres 17 on the eraser may vacuum what it emptied; before, only an owner may.
DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 170000 THEN
        GRANT MAINTAIN ON
            conversation_embeddings, superseded_turns, turn_speakers, user_memories, user_memory_revisions,
            user_memory_archive, documents, document_chunks, ingestion_jobs, ingestion_job_documents, tenants,
            api_tokens, audit_events, digest_keys, erasures
            TO memsidecar_eraser;
    END IF;
END
$$;
