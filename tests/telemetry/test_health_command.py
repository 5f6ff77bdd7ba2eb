"""The health check of a container, as its runtime runs it."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memsidecar.app import RunningSidecar
    from tests.conftest import TestDatabase


async def health(*arguments: str, admin_listen: str = "") -> tuple[int, str]:
    """Run the command and give its exit status and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "memsidecar",
        "health",
        *arguments,
        env={**os.environ, "MEMSIDECAR_ADMIN_LISTEN": admin_listen},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_a_ready_server_needs_no_words(measured_sidecar: RunningSidecar) -> None:
    address = str(measured_sidecar.admin_address)
    assert await health("--admin", address) == (0, "")
    assert await health(admin_listen=address.replace("127.0.0.1", "0.0.0.0")) == (0, "")


async def test_a_server_without_its_database_is_not_ready(
    measured_sidecar: RunningSidecar, test_database: TestDatabase
) -> None:
    import asyncpg

    administrator = await asyncpg.connect(test_database.urls.for_role("postgres", "postgres"))
    await administrator.execute(f"ALTER DATABASE {test_database.name} ALLOW_CONNECTIONS false")
    await administrator.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", test_database.name
    )
    await administrator.close()
    async with asyncio.timeout(30):
        status, said = await health("--admin", str(measured_sidecar.admin_address))
        while status == 0:
            status, said = await health("--admin", str(measured_sidecar.admin_address))
    assert status == 1
    assert "the database does not answer" in said


async def test_nobody_there_and_nowhere_to_ask_are_told_apart() -> None:
    status, said = await health("--admin", "127.0.0.1:1")
    assert (status, "Nothing answers at 127.0.0.1:1." in said) == (1, True)
    status, said = await health()
    assert (status, "There is no admin port to ask." in said) == (1, True)
