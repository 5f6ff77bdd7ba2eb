"""A sidecar of the benchmark's own: real Postgres on disk, real model, real socket."""

from __future__ import annotations

import os
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from memsidecar.app import run_sidecar
from memsidecar.config import Config
from memsidecar.embedding.install import install_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def benchmark_sidecar(**settings: Any) -> AsyncIterator[grpc.aio.Channel]:
    """Run a sidecar on fresh data and give a channel to it.

    The model directory is that of the environment, so that nothing is installed twice.
    """
    with tempfile.TemporaryDirectory(prefix="memsidecar-benchmark-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - nothing to wait for
        config = Config.from_environment(
            None, **{"data_directory": Path(folder) / "data", "listen": "127.0.0.1:0", **settings}
        )
        install_model(config.model_directory)
        async with run_sidecar(config) as sidecar, grpc.aio.insecure_channel(sidecar.address) as channel:
            yield channel
