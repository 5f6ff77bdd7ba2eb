"""``memsidecar token``: credentials that callers send."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import rich_click as click
from rich.table import Table

from memsidecar.app import OPERATOR
from memsidecar.cli.console import error_console, print_table
from memsidecar.cli.control_plane import PAGE_SIZE, tenant_named, with_control_plane
from memsidecar.cli.failures import CommandFailed
from memsidecar.cli.settings import data_directory_option
from memsidecar.config import DEFAULT_TENANT
from memsidecar.domain.caller import Right
from memsidecar.domain.errors import NotFound, Problem
from memsidecar.rpc.administration_service import MAX_TOKEN_NAME_CHARACTERS
from memsidecar.rpc.validation import Violations

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from memsidecar.domain.tenants import TenantDirectory
    from memsidecar.domain.tokens import Secret, Token, TokenRegistry

_DEFAULT_RIGHTS = ("append", "recall", "documents")


@click.group()
def token() -> None:
    """Make, list and revoke API tokens, directly in the database."""


@token.command()
@click.argument("name")
@click.option("--tenant", "tenant_name", help=f"Name of the tenant it acts for. Default: {DEFAULT_TENANT}.")
@click.option(
    "--right",
    "rights",
    multiple=True,
    type=click.Choice(["append", "recall", "documents", "admin"]),
    help=f"What it may do; may be given several times. Default: {', '.join(_DEFAULT_RIGHTS)}.",
)
@click.option("--operator", is_flag=True, help="Make an operator's token: it manages tenants and has none.")
@click.option(
    "--agent", "agents", multiple=True, type=click.UUID, help="Only for this agent; several times for more."
)
@click.option("--days", type=click.IntRange(1, 3_650), help="How long it works. Default: without end.")
@data_directory_option
def create(
    *,
    name: str,
    tenant_name: str | None,
    rights: tuple[str, ...],
    agents: tuple[UUID, ...],
    days: int | None,
    data_directory: Path | None,
    operator: bool,
) -> None:
    """Make a token and print its secret, which is kept nowhere.

    NAME is what it is recognised by, for example the program that uses it.
    """
    if operator and (tenant_name or rights or agents):
        raise click.UsageError("an operator's token has no tenant, rights or agents: leave those options out")
    violations = Violations()
    violations.text("NAME", name, most=MAX_TOKEN_NAME_CHARACTERS, least=1)
    violations.raise_if_any()

    async def work(tenants: TenantDirectory, tokens: TokenRegistry) -> tuple[Token, Secret]:
        tenant = None if operator else await tenant_named(tenants, tenant_name or DEFAULT_TENANT)
        return await tokens.create(
            OPERATOR,
            tenant_id=None if tenant is None else tenant.tenant_id,
            name=name,
            rights=frozenset([Right.OPERATOR] if operator else map(Right, rights or _DEFAULT_RIGHTS)),
            agent_ids=frozenset(agents),
            lifetime=None if days is None else timedelta(days=days),
        )

    made, secret = with_control_plane(data_directory, work)
    error_console().print(
        f"Token {made.token_id}: {_rights(made)}. Its secret, shown only now, goes into MEMSIDECAR_TOKEN:",
        soft_wrap=True,
    )
    click.echo(str(secret))


@token.command("list")
@click.option("--tenant", "tenant_name", help=f"Name of the tenant. Default: {DEFAULT_TENANT}.")
@click.option("--operator", is_flag=True, help="List the tokens of operators instead.")
@data_directory_option
def list_tokens(tenant_name: str | None, data_directory: Path | None, *, operator: bool) -> None:
    """List tokens, newest first, never their secrets."""

    async def work(tenants: TenantDirectory, tokens: TokenRegistry) -> list[Token]:
        tenant = None if operator else await tenant_named(tenants, tenant_name or DEFAULT_TENANT)
        tenant_id = None if tenant is None else tenant.tenant_id
        found: list[Token] = []
        after = None
        while True:
            page = await tokens.list(OPERATOR, tenant_id=tenant_id, after=after, limit=PAGE_SIZE)
            found += page.items
            if page.next_position is None:
                return found
            moment, token_id = page.next_position
            after = (moment, token_id)

    table = Table("id", "name", "rights", "agents", "made", "state", box=None, pad_edge=False)
    for each in with_control_plane(data_directory, work):
        table.add_row(
            str(each.token_id),
            each.name,
            _rights(each),
            str(len(each.agent_ids)) if each.agent_ids else "all",
            f"{each.created_at:%Y-%m-%d %H:%M}",
            _state(each),
        )
    print_table(table)


@token.command()
@click.argument("token_id", type=click.UUID)
@data_directory_option
def revoke(token_id: UUID, data_directory: Path | None) -> None:
    """End a token now: every server refuses it within two seconds."""

    async def work(_tenants: TenantDirectory, tokens: TokenRegistry) -> Token:
        return await tokens.revoke(OPERATOR, token_id)

    try:
        ended = with_control_plane(data_directory, work)
    except NotFound as error:
        problem = Problem(
            f"There is no token {token_id}.", "Find its id with memsidecar token list --tenant NAME."
        )
        raise CommandFailed([problem]) from error
    click.echo(f"Revoked {ended.name}.")


def _rights(token: Token) -> str:
    return ", ".join(sorted(right.value for right in token.rights))


def _state(token: Token) -> str:
    if token.revoked_at is not None and token.revoked_at <= datetime.now(UTC):
        return "revoked"
    ends = [moment for moment in (token.expires_at, token.revoked_at) if moment is not None]
    if not ends:
        return "works"
    return f"{'works until' if min(ends) > datetime.now(UTC) else 'expired'} {min(ends):%Y-%m-%d %H:%M}"
