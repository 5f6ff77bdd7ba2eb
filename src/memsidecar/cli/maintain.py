"""``memsidecar maintain``: what is due from time to time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import rich_click as click

from memsidecar.cli.console import output_console
from memsidecar.cli.databases import naming, open_owner_database
from memsidecar.cli.settings import data_directory_option
from memsidecar.config import Config
from memsidecar.postgres.index_maintenance import IndexMaintenance

if TYPE_CHECKING:
    from pathlib import Path

    from memsidecar.postgres.index_maintenance import IndexChange


@click.command()
@data_directory_option
def maintain(data_directory: Path | None) -> None:
    """Do what is due from time to time, without getting in anybody's way.

    Builds the indexes that tenants have earned by their size, builds them anew when they have grown, and retires
    those that are no longer needed. Run it daily; several may run at once, and one then does the work. Runs as the
    owner role of MEMSIDECAR_OWNER_DATABASE_URL, or on the embedded Postgres when no DATABASE_URL is set.
    """
    config = Config.from_environment(data_directory=data_directory)
    changes = asyncio.run(_maintain(config))
    console = output_console()
    for change in changes:
        console.print(f"{change.deed.value} the index of tenant {change.tenant_id}, {change.rows:,} turns")
    if not changes:
        console.print("Nothing was due.")


async def _maintain(config: Config) -> list[IndexChange]:
    with naming(config.owner_database_url):
        async with open_owner_database(config) as owner_url:
            return await IndexMaintenance(owner_url).run()
