DROP FUNCTION refuse_change();
DROP TABLE embedding_models;
DROP TABLE api_tokens;
DROP TABLE tenants;
DROP FUNCTION text_lexemes(text, text);
DROP FUNCTION text_search_configuration(text);
DROP FUNCTION current_tenant();
