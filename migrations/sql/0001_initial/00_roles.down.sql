-- Roles and the extension stay: other databases of the cluster and other schemas may use them.
SELECT 1;
