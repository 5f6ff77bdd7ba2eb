"""``memsidecar migrate``: brings the database to the schema this version needs, or back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import rich_click as click

from memsidecar.cli.console import output_console
from memsidecar.cli.databases import naming, open_owner_database
from memsidecar.cli.settings import data_directory_option
from memsidecar.config import Config
from memsidecar.postgres.embedded.urls import APP, ERASER
from memsidecar.postgres.migrations import migrate as run_migrations
from memsidecar.postgres.schema import head_revision

if TYPE_CHECKING:
    from pathlib import Path

    from memsidecar.postgres.schema import SchemaState


@click.command()
@click.option(
    "--app-role", metavar="LOGIN", help="Login role of the server, made a member of memsidecar_app."
)
@click.option(
    "--eraser-role", metavar="LOGIN", help="Login role that erases, made a member of memsidecar_eraser."
)
@click.option(
    "--revision",
    default="head",
    show_default=True,
    help="An earlier revision to go back to; 'base' removes all.",
)
@data_directory_option
def migrate(
    app_role: str | None, eraser_role: str | None, revision: str, data_directory: Path | None
) -> None:
    """Bring the database to the schema this version needs.

    Runs as the owner role of MEMSIDECAR_OWNER_DATABASE_URL, or on the embedded Postgres when no DATABASE_URL is set.
    Several may run at once: the first does the work, the others wait and find nothing to do.
    """
    config = Config.from_environment(data_directory=data_directory)
    before = asyncio.run(_migrate(config, revision, app_role, eraser_role))
    after = head_revision() if revision == "head" else revision
    output_console().print(
        f"The database is at revision {after}"
        + (" already." if before.current == after else f"; it was at {before.current or 'none'}.")
    )


async def _migrate(
    config: Config, revision: str, app_role: str | None, eraser_role: str | None
) -> SchemaState:
    if config.embedded and config.owner_database_url is None:
        app_role, eraser_role = APP, ERASER
    with naming(config.owner_database_url):
        async with open_owner_database(config) as owner_url:
            return await run_migrations(
                owner_url, revision=revision, app_login=app_role, eraser_login=eraser_role
            )
