DROP TABLE turn_speakers;
DROP TABLE superseded_turns;
DROP TABLE conversation_embeddings;
