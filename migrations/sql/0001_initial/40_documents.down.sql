DROP TABLE ingestion_job_documents;
DROP TABLE ingestion_jobs;
DROP TABLE document_chunks;
DROP FUNCTION chunk_words(text, text[], text);
DROP TABLE documents;
