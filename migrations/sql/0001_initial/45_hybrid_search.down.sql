DROP FUNCTION hybrid_search;
