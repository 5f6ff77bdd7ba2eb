DROP FUNCTION refuse_change();
DROP TABLE embedding_models;
DROP TABLE api_tokens;
DROP TABLE tenants;
DROP FUNCTION current_tenant();
