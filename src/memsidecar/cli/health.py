"""``memsidecar health``: the health check of a container."""

from __future__ import annotations

import http.client
import json

import rich_click as click

from memsidecar.cli.failures import CommandFailed
from memsidecar.config import Config
from memsidecar.domain.errors import Problem

_PATIENCE_SECONDS = 2.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what to ask when that is listened on


@click.command()
@click.option(
    "--admin", "admin_listen", metavar="HOST:PORT", help="The admin port (MEMSIDECAR_ADMIN_LISTEN)."
)
def health(admin_listen: str | None) -> None:
    """Say nothing and end with 0 when the server is ready for calls; else say why not and end with 1."""
    config = Config.from_environment(admin_listen=admin_listen)
    if config.admin_listen is None:
        raise CommandFailed(
            [
                Problem(
                    "There is no admin port to ask.",
                    "Set MEMSIDECAR_ADMIN_LISTEN, or give --admin HOST:PORT.",
                )
            ]
        )
    host, _, port = config.admin_listen.rpartition(":")
    host = host.strip("[]")
    connection = http.client.HTTPConnection(_EVERYWHERE.get(host, host), int(port), timeout=_PATIENCE_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = json.load(connection.getresponse())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CommandFailed(
            [Problem(f"Nothing answers at {config.admin_listen}.", "Is the server running?")]
        ) from error
    finally:
        connection.close()
    if not answer["ready"]:
        raise CommandFailed([Problem(f"Not ready: {answer['reason']}.", "Run 'memsidecar check' for more.")])
