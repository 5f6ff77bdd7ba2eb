DROP FUNCTION superseded_turns(uuid, uuid[], text, timestamptz);
DROP TABLE conversation_embeddings;
