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


@asynccontextmanager
async def temporary_postgres(
    settings: Mapping[str, str] = NO_SETTINGS, *, installation: Installation | None = None
) -> AsyncIterator[EmbeddedPostgres]:
    """Run a Postgres whose data is gone afterwards, and which therefore never waits for the disk.

    Args:
        settings: Postgres settings on top of those for throwaway data; a benchmark of writes turns ``fsync``
        and
            ``synchronous_commit`` on again.
        installation: the binaries; None finds the installed package.
    """
    folder = _make_folder()
    try:
        directory = folder / "postgres"
        async with EmbeddedPostgres(
            directory, settings={**THROWAWAY, **settings}, installation=installation
        ) as postgres:
            yield postgres
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="memsidecar-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)  # the user Postgres runs as has to pass through
    return folder
