"""Where clients find an embedded Postgres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from pathlib import Path

DATABASE = "memsidecar"
SUPERUSER = "postgres"
OWNER = "memsidecar_owner"
APP = "memsidecar_server"
ERASER = "memsidecar_eraser_login"


@dataclass(frozen=True, slots=True)
class DatabaseUrls:
    """Connection strings that asyncpg and SQLAlchemy understand; they hold no secret.

    There are no passwords: the socket lies in a directory that only the service's own user (and root) can
    enter, and whoever can enter it can read the data files too.
    """

    socket_directory: Path

    @property
    def owner_url(self) -> str:
        """The role that owns the database and runs migrations; it may create roles."""
        return self.for_role(OWNER)

    @property
    def app_url(self) -> str:
        """The role that serves requests."""
        return self.for_role(APP)

    @property
    def eraser_url(self) -> str:
        """The role that erases."""
        return self.for_role(ERASER)

    def for_role(self, role: str, database: str = DATABASE) -> str:
        """The connection string of any login role for any database of this server.

        The port only names the socket file; nothing listens on the network.
        """
        query = urlencode({"host": str(self.socket_directory), "port": "5432"})
        return f"postgresql://{quote(role, safe='')}@/{quote(database, safe='')}?{query}"
