DROP FUNCTION claim_ingestion_job(uuid, integer);
DROP FUNCTION end_token(uuid, uuid, boolean, timestamptz);
DROP FUNCTION list_tokens(uuid, timestamptz, uuid, integer);
DROP FUNCTION create_token(uuid, uuid, text, bytea, text[], uuid[], timestamptz);
DROP FUNCTION update_tenant(tenants);
DROP FUNCTION list_tenants(text, integer);
DROP FUNCTION find_tenant(uuid, text);
DROP FUNCTION create_tenant(uuid, text, text);
DROP FUNCTION find_token(bytea);
