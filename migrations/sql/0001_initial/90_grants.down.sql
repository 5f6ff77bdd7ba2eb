-- Grants and ownership go with the objects they are on; roles belong to the whole cluster and stay.
SELECT 1;
