-- name: missing_login_roles
-- Statements that create the login roles that are not there yet.
-- $1 text[]: their names. $2 boolean[]: whether each may create roles.
SELECT format(
    'CREATE ROLE %I LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOREPLICATION %s',
    wanted.name,
    CASE WHEN wanted.creates_roles THEN 'CREATEROLE' ELSE 'NOCREATEROLE' END
) AS statement
FROM unnest($1::text[], $2::boolean[]) AS wanted (name, creates_roles)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name);

-- name: missing_database
-- The statement that creates the database, or no row when it is there.
-- $1 text: its name. $2 text: the role that owns it.
SELECT format('CREATE DATABASE %I OWNER %I', $1::text, $2::text) AS statement
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = $1::text);

-- name: create_vector_extension
-- Creating it takes a superuser, which the owner of the database is not.
CREATE EXTENSION IF NOT EXISTS vector;

-- name: vector_extension_outdated
-- Whether the database holds an older pgvector than the one that is installed.
SELECT installed_version <> default_version FROM pg_available_extensions WHERE name = 'vector';

-- name: update_vector_extension
-- Brings the database's pgvector to the installed version.
ALTER EXTENSION vector UPDATE;
