-- name: facts
-- Says what the database is like for the role that is connected: versions, what the role is, and whether the tables
-- that hold tenants' rows are protected.
WITH me AS (
    SELECT rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user
),
tenant_tables AS (
    SELECT c.oid, c.relname, c.relowner, c.relrowsecurity, c.relforcerowsecurity
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = current_schema()
    WHERE c.relkind IN ('r', 'p')
        AND NOT c.relispartition
        AND (
            c.relname = 'tenants'
            OR EXISTS (
                SELECT FROM pg_attribute AS a
                WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
            )
        )
)
SELECT
    current_setting('server_version') AS postgres_version,
    current_setting('server_version_num')::integer AS postgres_version_number,
    coalesce(
        (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
        (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')
    ) AS pgvector_version,
    me.rolname::text AS role,
    me.rolsuper AS is_superuser,
    me.rolbypassrls AS bypasses_rls,
    EXISTS (SELECT FROM pg_roles WHERE rolname = 'memsidecar_app' AND pg_has_role(current_user, oid, 'USAGE'))
        AS is_app_member,
    ARRAY(
        SELECT rolname::text
        FROM pg_roles
        WHERE rolname IN ('memsidecar_control', 'memsidecar_eraser', 'memsidecar_search')
            AND NOT me.rolsuper AND pg_has_role(current_user, oid, 'MEMBER')
        ORDER BY 1
    ) AS other_roles,
    ARRAY(
        SELECT relname::text FROM tenant_tables WHERE pg_has_role(current_user, relowner, 'MEMBER') ORDER BY 1
    ) AS owned_tables,
    ARRAY(
        SELECT relname::text
        FROM tenant_tables AS t
        WHERE NOT (t.relrowsecurity AND t.relforcerowsecurity)
            OR NOT EXISTS (
                SELECT FROM pg_policy AS p
                WHERE p.polrelid = t.oid AND p.polname = 'tenant_isolation' AND p.polcmd = '*' AND p.polroles = '{0}'
                    AND p.polwithcheck IS NULL
                    AND pg_get_expr(p.polqual, p.polrelid) IN (
                        SELECT format('(%s = (NULLIF(current_setting(%L::text, true), %L::text))::uuid)', key,
                                      'app.current_tenant', '')
                        FROM unnest(ARRAY['id', 'tenant_id']) AS key
                    )
            )
            OR EXISTS (
                -- One permissive policy more is one way around the first.
                SELECT FROM pg_policy AS p, unnest(p.polroles) AS applies_to
                WHERE p.polrelid = t.oid AND p.polname <> 'tenant_isolation' AND p.polpermissive
                    AND (applies_to = 0 OR pg_has_role(current_user, applies_to, 'USAGE'))
            )
        ORDER BY 1
    ) AS unprotected_tables,
    ARRAY(
        SELECT DISTINCT c.relname::text
        FROM pg_class AS c, aclexplode(c.relacl) AS privilege
        WHERE c.relispartition AND c.relnamespace = current_schema()::regnamespace
            AND privilege.grantee <> c.relowner
        ORDER BY 1
    ) AS granted_partitions
FROM me;

-- name: connection_room
-- Says how many connections ordinary roles may have open in all, how many are open, and how many this role holds.
SELECT
    current_setting('max_connections')::integer
        - current_setting('superuser_reserved_connections')::integer
        - current_setting('reserved_connections')::integer AS allowed,
    (SELECT sum(numbackends)::integer FROM pg_stat_database) AS open,
    (SELECT count(*)::integer FROM pg_stat_activity WHERE usename = current_user) AS own;

-- name: ping
-- Answers when the database does.
SELECT 1;
