DROP TABLE conversation_embeddings;
