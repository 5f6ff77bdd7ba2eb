"""Starting a program of the Postgres installation."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from memsidecar.domain.errors import Problem, SetupError

if TYPE_CHECKING:
    from memsidecar.postgres.embedded.account import Account

ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}
"""Nothing of this process's own: it holds secrets, and ``PG...`` variables meant for other servers."""


async def spawn(
    program: str, *arguments: str, account: Account | None, **options: Any
) -> asyncio.subprocess.Process:
    """Start ``program`` as ``account`` (None: as this user), out of reach of the terminal's Ctrl-C.

    Args:
        program: its path.
        arguments: its arguments.
        account: who it runs as.
        options: further keyword arguments of ``asyncio.create_subprocess_exec``.

    Raises:
        SetupError: the system refuses to start it.
    """
    if account is not None:
        options |= {"user": account.user_id, "group": account.group_id, "extra_groups": []}
    try:
        return await asyncio.create_subprocess_exec(
            program, *arguments, env=ENVIRONMENT, cwd="/", umask=0o077, start_new_session=True, **options
        )
    except OSError as error:
        who = "this user" if account is None else f"user {account.user_id}"
        raise SetupError(
            Problem(
                f"{program} cannot be run as {who}: {os.strerror(error.errno or 0)}.",
                "Run memsidecar as an ordinary user who may run it, or configure a DATABASE_URL.",
            )
        ) from error
