DROP TABLE user_memory_archive;
DROP TABLE user_memory_revisions;
DROP TABLE user_memories;
