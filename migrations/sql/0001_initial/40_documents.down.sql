DROP TABLE ingestion_job_documents;
DROP TABLE ingestion_jobs;
DROP TABLE document_chunks;
DROP TABLE documents;
