"""What is repeated, what is not, and when it ends: against servers that are missing, late, full or stopping."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest

from memsidecar.client import (
    AsyncMemoryClient,
    DeadlineExceededError,
    ExhaustedError,
    InvalidRequestError,
    NewTurn,
    RetryPolicy,
    UnavailableError,
)
from memsidecar.client.retries import NO_RETRIES, Attempts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.conftest import TestDatabase

AGENT = "018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071"
GREETING = NewTurn(agent_id=AGENT, user_id="U1", conversation_id="C1", content="Good morning")
BUSY = ExhaustedError("busy", code=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=timedelta(seconds=2))
FULL = ExhaustedError("quota used up", code=grpc.StatusCode.RESOURCE_EXHAUSTED)
AWAY = UnavailableError("away", code=grpc.StatusCode.UNAVAILABLE)
WRONG = InvalidRequestError("wrong", code=grpc.StatusCode.INVALID_ARGUMENT)


def delay(error: Any, *, attempt: int = 1, remaining_seconds: float = 60.0) -> float | None:
    return RetryPolicy(max_attempts=4).delay_seconds(
        error, attempt=attempt, remaining_seconds=remaining_seconds
    )


def test_only_what_can_succeed_later_is_repeated() -> None:
    assert delay(AWAY) is not None
    assert delay(BUSY) is not None
    assert delay(FULL) is None
    assert delay(WRONG) is None


def test_delays_double_up_to_a_limit_and_are_part_chance() -> None:
    policy = RetryPolicy(max_attempts=100, first_delay_seconds=0.1, longest_delay_seconds=2.0)
    for attempt, longest in ((1, 0.1), (2, 0.2), (3, 0.4), (20, 2.0)):
        delays = {policy.delay_seconds(AWAY, attempt=attempt, remaining_seconds=60.0) for _ in range(20)}
        assert all(each is not None and longest / 2 <= each <= longest for each in delays)
        assert len(delays) > 1


def test_the_servers_own_delay_is_waited_for() -> None:
    waited = delay(BUSY)
    assert waited is not None
    assert 2.0 < waited <= 2.1


def test_nothing_is_waited_for_beyond_the_deadline() -> None:
    assert delay(BUSY, remaining_seconds=1.5) is None
    assert delay(AWAY, remaining_seconds=0.01) is None


def test_attempts_are_counted_and_raise_the_last_error() -> None:
    attempts = Attempts(RetryPolicy(max_attempts=3), timeout_seconds=60.0)
    attempts.delay_after(AWAY)
    attempts.delay_after(AWAY)
    with pytest.raises(UnavailableError):
        attempts.delay_after(AWAY)
    attempts = Attempts(RetryPolicy(max_attempts=3), timeout_seconds=60.0, safe_to_repeat=False)
    with pytest.raises(UnavailableError):
        attempts.delay_after(AWAY)


async def test_a_server_that_comes_back_is_found(start_sidecar: Callable[..., Any]) -> None:
    async with start_sidecar() as sidecar:
        address = sidecar.address
    async with AsyncMemoryClient(address, retries=RetryPolicy(max_attempts=1_000)) as client:
        waiting = asyncio.create_task(client.append(GREETING, timeout_seconds=30.0))
        with pytest.raises(UnavailableError):
            async with AsyncMemoryClient(address, retries=NO_RETRIES) as impatient:
                await impatient.health()
        async with start_sidecar(listen=address):
            appended = await waiting
            assert not appended.repeated
            assert [turn.turn_id async for turn in client.list_turns()] == [appended.turn_id]


async def test_nobody_there_is_an_error_within_the_deadline() -> None:
    persistent = RetryPolicy(max_attempts=1_000)
    async with AsyncMemoryClient("127.0.0.1:1", timeout_seconds=0.5, retries=persistent) as client:
        with pytest.raises((UnavailableError, DeadlineExceededError)):
            await client.recall("anything")


@asynccontextmanager
async def locked_turns(database: TestDatabase) -> AsyncIterator[None]:
    """Be somebody else's transaction that keeps every append waiting."""
    connection = await asyncpg.connect(database.owner_url)
    await connection.execute("BEGIN; LOCK TABLE conversation_embeddings IN ACCESS EXCLUSIVE MODE")
    yield
    await connection.close()


async def test_a_full_pool_is_waited_out(
    start_sidecar: Callable[..., Any], test_database: TestDatabase
) -> None:
    async with (
        start_sidecar(pool_size=1, pool_wait_seconds=0.1) as sidecar,
        AsyncMemoryClient(sidecar.address, retries=NO_RETRIES) as impatient,
        AsyncMemoryClient(sidecar.address) as patient,
    ):
        async with locked_turns(test_database):
            holding = asyncio.create_task(impatient.append(GREETING, timeout_seconds=60.0))
            refused = await _refusal(impatient)
            assert refused.retry_after is not None
            waiting = asyncio.create_task(patient.upsert_user_memory("U1", memory="Patient."))
            await asyncio.sleep(0.3)
        assert (await waiting).memory.revision == 1
        assert not (await holding).repeated


async def _refusal(client: AsyncMemoryClient) -> ExhaustedError:
    """Ask until the append in flight holds the only connection, and give the refusal."""
    async with asyncio.timeout(30):
        while True:
            try:
                await client.get_user_memory("U1")
            except ExhaustedError as error:
                return error
            except Exception:
                await asyncio.sleep(0.01)


async def test_a_repetition_stores_nothing_twice(start_sidecar: Callable[..., Any]) -> None:
    async with start_sidecar() as sidecar:
        proxy = LosesTheFirstAnswer(sidecar.address)
        address = await proxy.start()
        try:
            async with AsyncMemoryClient(address) as client:
                appended = await client.append(GREETING)
                assert appended.repeated
                assert len([turn async for turn in client.list_turns()]) == 1
        finally:
            await proxy.stop()


class LosesTheFirstAnswer:
    """A connection to a server that breaks as the first answer with something stored comes back."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._server_host, self._server_port = host, int(port)
        self._answers = 0
        self._listener: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._listener.sockets[0].getsockname()
        return f"{host}:{port}"

    async def stop(self) -> None:
        assert self._listener is not None
        for writer in self._writers:
            writer.close()
        self._listener.close()
        await self._listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(self._server_host, self._server_port)
        self._writers += [writer, server_writer]
        sending = asyncio.create_task(self._copy(reader, server_writer))
        while data := await server_reader.read(65_536):
            # The answer of AppendTurn is the first thing that names the model.
            if b"all-MiniLM-L6-v2" in data:
                self._answers += 1
                if self._answers == 1:
                    break
            writer.write(data)
            await writer.drain()
        sending.cancel()
        writer.close()
        server_writer.close()

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
