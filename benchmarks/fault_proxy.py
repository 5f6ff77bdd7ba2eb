"""A proxy between a program and its Postgres that does to the connections what networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager, suppress
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PART_BYTES = 65_536


class Fault(Enum):
    """What the proxy does."""

    NONE = "none"
    BLACK_HOLE = "black hole"
    """Takes what it is sent and passes nothing on, either way; new connections too."""
    REFUSE = "refuse"
    """Closes new connections at once; those that are open stay as they are."""


class FaultProxy:
    """Listens on a unix socket named as Postgres names its own, and passes everything on to the real one.

    Args:
        upstream: Socket of the real server.
    """

    def __init__(self, upstream: Path) -> None:
        self.upstream = upstream
        self.fault = Fault.NONE
        self.delay_seconds = 0.0
        """Added to each part that is passed on, either way."""
        self._open: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def reset(self) -> int:
        """Cut every connection in the middle of whatever it does, and give how many there were."""
        count = len(self._open)
        for pair in self._open:
            for writer in pair:
                _reset(writer)
        return count

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection; the callback of ``asyncio.start_unix_server``."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cut everything."""
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault is Fault.REFUSE:
            _reset(writer)
            return
        try:
            upstream_reader, upstream_writer = await asyncio.open_unix_connection(self.upstream)
        except OSError:
            _reset(writer)
            return
        pair = writer, upstream_writer
        self._open.add(pair)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, upstream_writer))
                group.create_task(self._pass_on(upstream_reader, writer))
        finally:
            self._open.discard(pair)
            for each in pair:
                each.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while part := await reader.read(_PART_BYTES):
                if self.fault is Fault.BLACK_HOLE:
                    # What was swallowed is gone for good, and with it the sense of everything after it.
                    await asyncio.Event().wait()
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                writer.write(part)
                await writer.drain()
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def fault_proxy(url: str) -> AsyncIterator[tuple[FaultProxy, str]]:
    """Put a proxy before a Postgres that listens on a unix socket.

    Args:
        url: Connection URL with the socket's directory as ``host`` in its query.

    Yields:
        The proxy, and the URL that goes through it.
    """
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    socket_name = f".s.PGSQL.{query.get('port', '5432')}"
    proxy = FaultProxy(Path(query["host"]) / socket_name)
    with TemporaryDirectory(prefix="memsidecar-proxy-") as folder:
        server = await asyncio.start_unix_server(proxy.connected, Path(folder) / socket_name)
        try:
            through = urlunsplit(parts._replace(query=urlencode({**query, "host": folder})))
            yield proxy, through
        finally:
            server.close()
            await proxy.close()
