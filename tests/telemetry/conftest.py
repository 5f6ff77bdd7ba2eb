"""A whole sidecar with its own model, so that the embedder too is measured, and its admin port."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from memsidecar.app import run_sidecar
from memsidecar.config import Config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from memsidecar.app import RunningSidecar
    from tests.conftest import TestDatabase


@pytest.fixture
def start_measured_sidecar(
    test_database: TestDatabase, model_directory: Path, tmp_path: Path
) -> Callable[..., Any]:
    """Start a server with an admin port: ``async with start_measured_sidecar(pool_size=3) as sidecar``."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[RunningSidecar]:
        config = Config.from_environment(
            {},
            **{
                "database_url": test_database.app_url,
                "model_directory": model_directory,
                "data_directory": tmp_path / "data",
                "listen": "127.0.0.1:0",
                "admin_listen": "127.0.0.1:0",
                **settings,
            },
        )
        async with run_sidecar(config) as sidecar:
            yield sidecar

    return start


@pytest.fixture
async def measured_sidecar(start_measured_sidecar: Callable[..., Any]) -> AsyncIterator[RunningSidecar]:
    """A running server with an admin port."""
    async with start_measured_sidecar() as sidecar:
        yield sidecar
