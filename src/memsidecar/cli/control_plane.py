"""Tenants and tokens of the configured database, for commands that act on them directly."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from memsidecar.app import OPERATOR, open_control_plane
from memsidecar.cli.databases import naming
from memsidecar.cli.failures import CommandFailed
from memsidecar.config import Config
from memsidecar.domain.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from memsidecar.domain.tenants import Tenant, TenantDirectory
    from memsidecar.domain.tokens import TokenRegistry

R = TypeVar("R")

PAGE_SIZE = 1_000


def with_control_plane(
    data_directory: Path | None, work: Callable[[TenantDirectory, TokenRegistry], Awaitable[R]]
) -> R:
    """Run some work on the tenants and tokens of the configured database.

    Uses the embedded Postgres of a running server where there is one, and starts it for the moment where not.
    """
    config = Config.from_environment(data_directory=data_directory)

    async def run() -> R:
        with naming(config.database_url):
            async with open_control_plane(config) as (tenants, tokens):
                return await work(tenants, tokens)

    return asyncio.run(run())


async def all_tenants(tenants: TenantDirectory) -> list[Tenant]:
    """Read every tenant, by name."""
    found: list[Tenant] = []
    after = ""
    while True:
        page = await tenants.list(OPERATOR, after=after, limit=PAGE_SIZE)
        found += page.items
        if page.next_position is None:
            return found
        (after,) = page.next_position


async def tenant_named(tenants: TenantDirectory, name: str) -> Tenant:
    """Find a tenant by its name."""
    known = await all_tenants(tenants)
    for tenant in known:
        if tenant.name == name:
            return tenant
    names = ", ".join(tenant.name for tenant in known[:20]) or "none yet"
    raise CommandFailed(
        [
            Problem(
                f"There is no tenant {name!r}.",
                f"Give one of these ({names}), or make it: memsidecar tenant create {name}.",
            )
        ]
    )
