"""``memsidecar serve`` in a process of its own, as it runs beside an agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memsidecar.config import Config
from memsidecar.embedding.install import install_model
from memsidecar.postgres.embedded import DatabaseUrls, running_urls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START_SECONDS = 60.0
STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server."""

    address: str
    process_id: int
    databases: DatabaseUrls
    """Its embedded Postgres, by role."""


@asynccontextmanager
async def server_process(**environment: str) -> AsyncIterator[ServerProcess]:
    """Serve on fresh data and a free port of the loopback; stops with the block."""
    install_model(Config.from_environment().model_directory)
    with tempfile.TemporaryDirectory(prefix="memsidecar-benchmark-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - nothing to wait for
        address = f"127.0.0.1:{_free_port()}"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "memsidecar",
            "serve",
            "--listen",
            address,
            "--data-directory",
            f"{folder}/data",
            env={**os.environ, **environment},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await _until_serving(process, address)
            databases = running_urls(Path(folder) / "data" / "postgres")
            if databases is None:
                raise RuntimeError("the server runs, but its Postgres does not")
            yield ServerProcess(address, process.pid, databases)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), STOP_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _until_serving(process: asyncio.subprocess.Process, address: str) -> None:
    async with asyncio.timeout(START_SECONDS), grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while process.returncode is None:
            with contextlib.suppress(grpc.aio.AioRpcError):
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=1)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(0.05)
    raise RuntimeError(f"the server ended with {process.returncode}")
