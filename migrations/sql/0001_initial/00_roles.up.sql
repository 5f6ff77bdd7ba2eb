-- Roles belong to the cluster, not to one database: made where missing, left as they are where not. Nobody logs in as
-- one of them; login roles are made members.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['memsidecar_app', 'memsidecar_control', 'memsidecar_eraser', 'memsidecar_search'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- another database of the cluster was migrated at the same moment
            END;
        END IF;
    END LOOP;
    -- Handing a function to a role takes the right to become that role.
    FOREACH wanted IN ARRAY ARRAY['memsidecar_control', 'memsidecar_search'] LOOP
        IF NOT pg_has_role(current_user, wanted, 'SET') THEN
            EXECUTE format('GRANT %I TO %I WITH INHERIT FALSE, SET TRUE', wanted, current_user);
        END IF;
    END LOOP;
END
$$;
CREATE EXTENSION IF NOT EXISTS vector;
CREATE EXTENSION IF NOT EXISTS btree_gin;
