"""A throwaway Postgres, for tests and benchmarks."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from memsidecar.postgres.embedded.server import NO_SETTINGS, EmbeddedPostgres
from memsidecar.postgres.embedded.settings import THROWAWAY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from memsidecar.postgres.embedded.installation import Installation


MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of its own is made inside
MEMORY_FREE_BYTES = 2 * 1024**3


@asynccontextmanager
async def temporary_postgres(
    settings: Mapping[str, str] = NO_SETTINGS,
    *,
    parent: Path | None = None,
    installation: Installation | None = None,
) -> AsyncIterator[EmbeddedPostgres]:
    """Run a Postgres whose data is gone afterwards, and which therefore never waits for the disk.

    Args:
        settings: Postgres settings on top of those for throwaway data; a benchmark of writes turns ``fsync``
            and ``full_page_writes`` on again.
        parent: where its directory is made; None is where :func:`temporary_parent` says.
        installation: the binaries; None finds the installed package.
    """
    folder = make_temporary_folder(parent or temporary_parent())
    try:
        directory = folder / "postgres"
        async with EmbeddedPostgres(
            directory, settings={**THROWAWAY, **settings}, installation=installation
        ) as postgres:
            yield postgres
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def temporary_parent() -> Path:
    """In memory where 2 GB are free there, which halves the time of a start; else among temporary files."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_FREE_BYTES:
        return MEMORY
    return Path(tempfile.gettempdir())


def make_temporary_folder(parent: Path) -> Path:
    """Make a folder that the user Postgres runs as may pass through, which one of root's is not by itself."""
    folder = Path(tempfile.mkdtemp(prefix="memsidecar-", dir=parent))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    return folder
