-- name: find_token
-- Reads the token behind a secret. $1 SHA-256 of the secret.
SELECT * FROM find_token($1);

-- name: get_token
-- Reads a token of the transaction's tenant. $1 tenant, $2 id.
SELECT id, tenant_id, name, rights, agent_ids, created_at, expires_at, revoked_at
FROM api_tokens
WHERE tenant_id = $1 AND id = $2;

-- name: create_token
-- Stores a token. $1 id, $2 tenant, $3 name, $4 SHA-256 of the secret, $5 rights, $6 agents, $7 expiry.
SELECT * FROM create_token($1, $2, $3, $4, $5, $6, $7);

-- name: list_tokens
-- Reads tokens, newest first. $1 tenant (NULL for operators), $2 and $3 time and id of the last one, $4 how many.
SELECT * FROM list_tokens($1, $2, $3, $4);

-- name: end_token
-- Lets a token end. $1 id, $2 tenant, $3 whether any tenant will do, $4 when.
SELECT * FROM end_token($1, $2, $3, $4);

-- name: create_tenant
-- Makes a tenant. $1 id, $2 name, $3 language.
SELECT * FROM create_tenant($1, $2, $3);

-- name: find_tenant
-- Reads a tenant. $1 id, or NULL and $2 name.
SELECT * FROM find_tenant($1, $2);

-- name: list_tenants
-- Reads tenants by name. $1 the name read last, $2 how many.
SELECT * FROM list_tenants($1, $2);

-- name: update_tenant
-- Replaces the settings of a tenant. $1 id, $2 language, $3 to $6 retention of turns, documents, jobs and memory
-- revisions, $7 turns, $8 document bytes, $9 calls per second, $10 what happens at the hard limit of a memory.
SELECT * FROM update_tenant(
    ROW($1::uuid, '', $2::text, $3::interval, $4::interval, $5::interval, $6::interval, $7::bigint, $8::bigint,
        $9::integer, $10::text, now())::tenants
);
