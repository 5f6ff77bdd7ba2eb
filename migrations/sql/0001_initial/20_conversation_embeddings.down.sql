DROP TABLE superseded_turns;
DROP TABLE conversation_embeddings;
