"""The admin HTTP port: ``/metrics``, ``/livez`` and ``/readyz``, answered by the event loop that answers calls.

``/livez`` asks nobody: it answers as long as the event loop turns, so a database that is away never makes anybody
restart this process. ``/readyz`` repeats what the health service knows.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import h11

from memsidecar.domain.errors import Problem, SetupError

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_SECONDS: Final = 75.0
"""A connection that asks nothing for this long is closed; Prometheus asks every 15 to 60 seconds."""

MAX_CONNECTIONS: Final = 64
"""More than this at once are closed unanswered: a scraper and a few probes need a handful."""

_READ_BYTES: Final = 16_384
_TEXT: Final = "text/plain; charset=utf-8"


class AdminServer:
    """Answers GET and HEAD on a few paths.

    Args:
        metrics: Gives the content type and the body for an ``Accept`` header.
        serving: Whether calls are taken and the database answers.
    """

    def __init__(self, metrics: Callable[[str], tuple[str, bytes]], serving: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._serving = serving
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, address: str) -> int:
        """Listen on ``host:port`` (port 0 takes a free one) and give the port.

        Raises:
            SetupError: The address cannot be listened on.
        """
        host, _, port = address.rpartition(":")
        try:
            self._server = await asyncio.start_server(self._accept, host.strip("[]"), int(port))
        except OSError as error:
            raise SetupError(
                Problem(
                    f"the admin address {address} cannot be listened on: another program may use it.",
                    "Stop that program, or choose another address with MEMSIDECAR_ADMIN_LISTEN.",
                )
            ) from error
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            writer.close()
            return
        task = asyncio.create_task(self._talk(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            with suppress(OSError, TimeoutError, h11.RemoteProtocolError):
                while request := await _next_request(connection, reader):
                    writer.write(self._answer(connection, request))
                    await asyncio.wait_for(writer.drain(), IDLE_SECONDS)
                    if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                        return
                    connection.start_next_cycle()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _answer(self, connection: h11.Connection, request: h11.Request) -> bytes:
        status, content_type, body = self._page(request)
        headers = [("content-type", content_type), ("content-length", str(len(body)))]
        parts = [
            connection.send(h11.Response(status_code=status, headers=headers)),
            connection.send(h11.Data(data=b"" if request.method == b"HEAD" else body)),
            connection.send(h11.EndOfMessage()),
        ]
        return b"".join(part or b"" for part in parts)

    def _page(self, request: h11.Request) -> tuple[int, str, bytes]:
        if request.method not in {b"GET", b"HEAD"}:
            return 405, _TEXT, b"only GET and HEAD\n"
        match request.target.partition(b"?")[0]:
            case b"/livez":
                return 200, _TEXT, b"alive\n"
            case b"/readyz":
                ready = self._serving()
                body = json.dumps({"ready": ready, "reason": "" if ready else "the database does not answer"})
                return (200 if ready else 503), "application/json", body.encode() + b"\n"
            case b"/metrics":
                accept = next((value for name, value in request.headers if name == b"accept"), b"")
                return (200, *self._metrics(accept.decode("latin-1")))
            case _:
                return 404, _TEXT, b"/metrics /livez /readyz\n"


async def _next_request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """Read a request whole; None when the other side is done."""
    request: h11.Request | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await asyncio.wait_for(reader.read(_READ_BYTES), IDLE_SECONDS))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.EndOfMessage):
            return request
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return None
