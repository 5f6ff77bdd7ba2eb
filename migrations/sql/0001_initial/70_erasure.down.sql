DROP FUNCTION mark_erasures_vacuumed(timestamptz);
DROP FUNCTION unvacuumed_tables();
DROP FUNCTION find_erasure(uuid, uuid, boolean);
DROP FUNCTION claim_erasure(uuid, integer);
DROP TABLE erasures;
DROP TABLE digest_keys;
