-- name: may_vacuum
-- Says whether the role may vacuum every one of some tables: their owner may, a superuser, and from Postgres 17 on whoever
-- was granted MAINTAIN. $1 tables.
SELECT bool_and(
    pg_has_role(current_user, c.relowner, 'USAGE')
    OR CASE
        WHEN current_setting('server_version_num')::integer >= 170000
            THEN has_table_privilege(current_user, c.oid, 'MAINTAIN')
        ELSE false
    END
)
FROM pg_class AS c
WHERE c.oid = ANY (SELECT to_regclass(quote_ident(name)) FROM unnest($1::text[]) AS name);
