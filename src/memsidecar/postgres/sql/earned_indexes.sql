-- name: earned_indexes
-- Lists the indexes that tenants have of their own. The comment of each is JSON: {"rows": turns when it was built,
-- "agents": [agents it serves]}. $1 prefix of their names.
SELECT
    class.relname::text AS name,
    obj_description(class.oid, 'pg_class') AS description,
    index.indisvalid AND index.indisready AS valid
FROM pg_index AS index
JOIN pg_class AS class ON class.oid = index.indexrelid
WHERE index.indrelid = 'conversation_embeddings'::regclass AND starts_with(class.relname::text, $1)
ORDER BY class.relname;

-- name: all_tenants
-- Lists every tenant. Runs as memsidecar_control.
SELECT id FROM tenants ORDER BY id;

-- name: expected_turns
-- Tells about how many turns there are of all tenants; -1 when nobody counted yet.
SELECT reltuples::bigint FROM pg_class WHERE oid = 'conversation_embeddings'::regclass;

-- name: count_turns
-- Counts the rows of a tenant. $1 tenant.
SELECT count(*) FROM conversation_embeddings WHERE tenant_id = $1;

-- name: large_agents
-- Lists the agents that hold at least a share of a tenant's rows. $1 tenant, $2 rows.
SELECT agent_id FROM conversation_embeddings WHERE tenant_id = $1 GROUP BY agent_id HAVING count(*) >= $2 ORDER BY agent_id;
