"""The admin port as probes, scrapers and strangers meet it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from memsidecar.config import Config
from memsidecar.domain.errors import SetupError
from memsidecar.telemetry.admin_server import MAX_CONNECTIONS
from tests.telemetry.http_client import ask, get, read_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from memsidecar.app import RunningSidecar
    from tests.conftest import TestDatabase


async def test_a_running_server_is_alive_and_ready(measured_sidecar: RunningSidecar) -> None:
    assert await get(measured_sidecar.admin_address, "/livez") == (
        200,
        {"content-type": "text/plain; charset=utf-8", "content-length": "6"},
        "alive\n",
    )
    status, headers, body = await get(measured_sidecar.admin_address, "/readyz?verbose")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body) == {"ready": True, "reason": ""}


async def test_a_database_that_is_gone_makes_it_unready_and_leaves_it_alive(
    measured_sidecar: RunningSidecar, test_database: TestDatabase
) -> None:
    administrator = await asyncpg.connect(test_database.urls.for_role("postgres", "postgres"))
    await administrator.execute(f"ALTER DATABASE {test_database.name} ALLOW_CONNECTIONS false")
    await administrator.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", test_database.name
    )
    address = measured_sidecar.admin_address
    await _until_status(address, 503)
    assert json.loads((await get(address, "/readyz"))[2])["reason"] == "the database does not answer"
    assert (await get(address, "/livez"))[0] == 200
    assert "memsidecar_serving 0.0" in (await get(address, "/metrics"))[2]
    await administrator.execute(f"ALTER DATABASE {test_database.name} ALLOW_CONNECTIONS true")
    await administrator.close()
    await _until_status(address, 200)


async def _until_status(address: str | None, wanted: int) -> None:
    async with asyncio.timeout(15):
        while (await get(address, "/readyz"))[0] != wanted:  # noqa: ASYNC110 - the server is what changes
            await asyncio.sleep(0.05)


async def test_one_connection_takes_many_requests(measured_sidecar: RunningSidecar) -> None:
    host, _, port = str(measured_sidecar.admin_address).rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for _ in range(3):
        writer.write(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n")
        assert (await read_answer(reader))[0] == 200
    writer.write(b"GET /livez HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
    assert (await read_answer(reader))[0] == 200
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /metrics HTTP/1.0", 200),
        ("GET / HTTP/1.1", 404),
        ("GET /../etc/passwd HTTP/1.1", 404),
        ("POST /livez HTTP/1.1", 405),
        ("DELETE /metrics HTTP/1.1", 405),
    ],
)
async def test_other_requests_are_refused_plainly(
    measured_sidecar: RunningSidecar, request_line: str, status: int
) -> None:
    answer = await ask(measured_sidecar.admin_address, f"{request_line}\r\nhost: test\r\n\r\n")
    assert answer[0] == status


async def test_head_gives_the_headers_alone(measured_sidecar: RunningSidecar) -> None:
    host, _, port = str(measured_sidecar.admin_address).rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HEAD /livez HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    assert b"content-length: 6" in answer
    assert answer.endswith(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()


async def test_the_form_of_the_metrics_is_the_readers_choice(measured_sidecar: RunningSidecar) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    _, headers, body = await ask(
        measured_sidecar.admin_address, f"GET /metrics HTTP/1.1\r\nhost: t\r\naccept: {accept}\r\n\r\n"
    )
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


async def test_nonsense_and_crowds_do_no_harm(measured_sidecar: RunningSidecar) -> None:
    host, _, port = str(measured_sidecar.admin_address).rpartition(":")
    crowd = [await asyncio.open_connection(host, int(port)) for _ in range(MAX_CONNECTIONS)]
    reader, writer = await asyncio.open_connection(host, int(port))
    assert await reader.read() == b""  # one too many
    writer.close()
    for _reader, writer in crowd:
        writer.write(b"\x00\xff nonsense\r\n\r\n")
    for reader, writer in crowd:
        assert await reader.read() == b""
        writer.close()
    await _until_alive(measured_sidecar.admin_address)


async def _until_alive(address: str | None) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                assert (await get(address, "/livez"))[0] == 200
            except asyncio.IncompleteReadError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_there_is_no_admin_port_unless_asked_for(sidecar: RunningSidecar) -> None:
    assert Config.from_environment({}).admin_listen is None
    assert sidecar.admin_address is None


async def test_a_taken_admin_address_is_refused_with_what_to_do(
    measured_sidecar: RunningSidecar, start_measured_sidecar: Callable[..., Any]
) -> None:
    with pytest.raises(SetupError, match="admin address"):
        async with start_measured_sidecar(admin_listen=measured_sidecar.admin_address):
            pass


@pytest.mark.parametrize("address", ["unix:/run/admin.sock", "7701", "localhost:high"])
def test_an_admin_address_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(SetupError, match="MEMSIDECAR_ADMIN_LISTEN"):
        Config.from_environment({"MEMSIDECAR_ADMIN_LISTEN": address})
