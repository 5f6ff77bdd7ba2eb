"""``memsidecar tenant``: customers, teams or workspaces that the database keeps apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click
from rich.table import Table

from memsidecar.app import OPERATOR
from memsidecar.cli.console import print_table
from memsidecar.cli.control_plane import all_tenants, with_control_plane
from memsidecar.cli.settings import data_directory_option
from memsidecar.domain.languages import LANGUAGES
from memsidecar.domain.tenants import TenantSettings
from memsidecar.rpc.administration_messages import read_tenant_name
from memsidecar.rpc.validation import Violations

if TYPE_CHECKING:
    from pathlib import Path

    from memsidecar.domain.tenants import Tenant, TenantDirectory
    from memsidecar.domain.tokens import TokenRegistry


@click.group()
def tenant() -> None:
    """Make and list tenants, directly in the database."""


@tenant.command()
@click.argument("name")
@click.option(
    "--language",
    type=click.Choice(sorted(LANGUAGES)),
    default="english",
    show_default=True,
    metavar="LANGUAGE",
    help="Language of word search.",
)
@data_directory_option
def create(name: str, language: str, data_directory: Path | None) -> None:
    """Make a tenant and print its id.

    NAME is 1 to 64 of a-z, 0-9 and -, starting with a letter.
    """
    violations = Violations()
    read_tenant_name(violations, "NAME", name)
    violations.raise_if_any()

    async def work(tenants: TenantDirectory, _tokens: TokenRegistry) -> Tenant:
        return await tenants.create(OPERATOR, name, TenantSettings(language=language), None)

    click.echo(str(with_control_plane(data_directory, work).tenant_id))


@tenant.command("list")
@data_directory_option
def list_tenants(data_directory: Path | None) -> None:
    """List every tenant by name."""

    async def work(tenants: TenantDirectory, _tokens: TokenRegistry) -> list[Tenant]:
        return await all_tenants(tenants)

    table = Table("name", "id", "language", "made", box=None, pad_edge=False)
    for each in with_control_plane(data_directory, work):
        table.add_row(
            each.name, str(each.tenant_id), each.settings.language, f"{each.created_at:%Y-%m-%d %H:%M}"
        )
    print_table(table)
