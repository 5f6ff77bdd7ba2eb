"""Who is let in while others are, for how long, and what happens to them when the server stops."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
from google.protobuf import descriptor_pool
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2

from memsidecar.domain.caller import Right
from memsidecar.rpc import admission
from memsidecar.rpc.admission import RECHECK_SECONDS
from memsidecar.rpc.server import SERVICES
from memsidecar.v1 import administration_pb2 as admin
from memsidecar.v1 import conversation_memory_pb2 as pb
from memsidecar.v1 import documents_pb2
from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceStub
from memsidecar.v1.documents_pb2_grpc import DocumentServiceStub
from tests.rpc.statuses import bad_fields, details, reason
from tests.rpc.test_authentication import Client, bearer, client
from tests.rpc.test_conversation_memory import turn
from tests.rpc.test_server import health_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from tests.conftest import TestDatabase

__all__ = ["client"]


async def test_a_call_that_lasts_ends_with_its_credential(client: Client, tenant_id: UUID) -> None:
    operator, watching = await client.secret(tenant_id), await client.secret(tenant_id, Right.DOCUMENTS)
    documents: Any = DocumentServiceStub(client.channel)

    async def never_ending() -> Any:
        yield documents_pb2.IngestDocumentsRequest(
            document=documents_pb2.NewDocument(document_key="a", is_global=True, content=b"a")
        )
        await asyncio.Event().wait()

    call = documents.IngestDocuments(never_ending(), metadata=bearer(watching))
    tokens = (
        await client.administration.ListTokens(admin.ListTokensRequest(), metadata=bearer(operator))
    ).tokens
    token = next(token for token in tokens if list(token.rights) == [admin.RIGHT_DOCUMENTS])
    await asyncio.sleep(0.2)
    assert not call.done()
    await client.administration.RevokeToken(
        admin.RevokeTokenRequest(token_id=token.token_id), metadata=bearer(operator)
    )
    revoked = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await call
    assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert time.monotonic() - revoked < 3 * RECHECK_SECONDS


async def test_one_tenant_cannot_take_all_calls(
    client: Client,
    new_tenant: Callable[..., Awaitable[UUID]],
    test_database: TestDatabase,
) -> None:
    """The fixture's server lets in 1,000; of these one tenant gets two thirds."""
    greedy, other = await client.secret(await new_tenant()), await client.secret(await new_tenant())
    blocker = await asyncpg.connect(test_database.owner_url)
    await blocker.execute("BEGIN; LOCK TABLE conversation_embeddings IN ACCESS EXCLUSIVE MODE")
    calls = [asyncio.create_task(client.listed(greedy)) for _ in range(900)]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await next(asyncio.as_completed(calls))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(refused.value) == "OVERLOADED"
    assert details(refused.value, RetryInfo)
    reached = client.administration.GetTenant(admin.GetTenantRequest(), metadata=bearer(other), timeout=10)
    assert (await reached).tenant.tenant_id
    for call in calls:
        call.cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(each, asyncio.CancelledError) for each in outcomes) > 500
    await blocker.execute("ROLLBACK")
    await blocker.close()
    assert await client.listed(greedy) == []


async def test_cancelled_calls_leave_their_places(
    start_sidecar: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MOST_CALLS", 3)
    async with (
        start_sidecar() as sidecar,
        grpc.aio.insecure_channel(sidecar.address) as channel,
    ):
        memory: Any = ConversationMemoryServiceStub(channel)
        for number in range(60):
            call = asyncio.ensure_future(
                memory.ListTurns(pb.ListTurnsRequest(), timeout=0.001 * (number % 7 + 1))
            )
            await asyncio.sleep(0.001 * (number % 5))
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        async with asyncio.timeout(5):
            while True:
                try:
                    await asyncio.gather(*(memory.ListTurns(pb.ListTurnsRequest()) for _ in range(2)))
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)


async def answer_to(channel: Any, path: str, method: Any, message: bytes) -> grpc.aio.AioRpcError | None:
    """Send bytes as the request of a method, whatever its kind, and give the error it ends with."""
    try:
        if method.client_streaming:
            await channel.stream_unary(path)(iter([message]))
        elif method.server_streaming:
            async for _message in channel.unary_stream(path)(message):
                pass
        else:
            await channel.unary_unary(path)(message)
    except grpc.aio.AioRpcError as error:
        return error
    return None


async def test_bytes_that_are_no_message_are_the_callers_mistake(channel: grpc.aio.Channel) -> None:
    for service in SERVICES:
        for method in descriptor_pool.Default().FindServiceByName(service).methods:
            error = await answer_to(channel, f"/{service}/{method.name}", method, b"\xff")
            assert error is not None
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, method.name
            assert bad_fields(error) == ["request"]


class Load:
    """Callers that append without a break, each until it is told UNAVAILABLE."""

    def __init__(self, address: str) -> None:
        self.acknowledged: set[str] = set()
        self.codes: set[grpc.StatusCode] = set()
        self._channel = grpc.aio.insecure_channel(address)
        self._tasks = [asyncio.create_task(self._write()) for _ in range(20)]

    async def _write(self) -> None:
        memory: Any = ConversationMemoryServiceStub(self._channel)
        while grpc.StatusCode.UNAVAILABLE not in self.codes:
            try:
                stored = await memory.AppendTurn(pb.AppendTurnRequest(turn=turn(f"said {uuid4()}")))
                self.acknowledged.add(stored.turn.turn_id)
            except grpc.aio.AioRpcError as error:
                self.codes.add(error.code())

    async def end(self) -> None:
        await asyncio.gather(*self._tasks)
        await self._channel.close()


async def healths_until_the_end(address: str) -> list[int]:
    healths: list[int] = []
    async with grpc.aio.insecure_channel(address) as channel:
        with suppress(grpc.aio.AioRpcError):
            while not healths or healths[-1] == health_pb2.HealthCheckResponse.SERVING:
                healths.append(await health_of(channel))
    return healths


async def test_a_server_that_stops_lets_calls_finish_and_says_no_to_new_ones(
    start_sidecar: Callable[..., Any],
) -> None:
    """Every answer under load is a whole one or UNAVAILABLE, and what was acknowledged is stored."""
    async with start_sidecar(grace_seconds=10.0) as sidecar:
        load = Load(sidecar.address)
        healths = asyncio.create_task(healths_until_the_end(sidecar.address))
        await asyncio.sleep(0.5)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    await load.end()
    assert load.codes == {grpc.StatusCode.UNAVAILABLE}
    assert (await healths)[-1] == health_pb2.HealthCheckResponse.NOT_SERVING
    assert len(load.acknowledged) > 20
    async with (
        start_sidecar() as again,
        grpc.aio.insecure_channel(again.address) as channel,
    ):
        memory: Any = ConversationMemoryServiceStub(channel)
        for turn_id in load.acknowledged:
            assert (await memory.GetTurn(pb.GetTurnRequest(turn_id=turn_id))).turn.turn_id == turn_id
