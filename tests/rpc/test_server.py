"""Health, reflection, a database that goes away, a pool that is full."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from memsidecar.domain.errors import SetupError
from memsidecar.rpc.server import SERVICES
from memsidecar.v1 import conversation_memory_pb2 as pb
from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceStub
from tests.rpc.statuses import details, reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from memsidecar.app import RunningSidecar
    from tests.conftest import TestDatabase

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health_of(channel: grpc.aio.Channel, service: str = "") -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(response.status)


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until a condition holds; the test's own timeout is the other bound."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - what is waited for is elsewhere
            await asyncio.sleep(0.05)


async def test_every_service_is_healthy(channel: grpc.aio.Channel) -> None:
    assert len(SERVICES) == 4
    for service in ("", *SERVICES):
        assert await health_of(channel, service) == SERVING


async def test_reflection_knows_a_method_by_its_full_name(channel: grpc.aio.Channel) -> None:
    """Which is what ghz asks for; one that does not exist is not found."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    method = "memsidecar.v1.ConversationMemoryService.AppendTurn"
    requests = [
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in (method, f"{method}x")
    ]
    found, missing = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]
    assert found.file_descriptor_response.file_descriptor_proto
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_reflection_lists_every_service_and_knows_every_message(channel: grpc.aio.Channel) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        *[reflection_pb2.ServerReflectionRequest(file_containing_symbol=service) for service in SERVICES],
    ]
    answers = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]
    listed = {service.name for service in answers[0].list_services_response.service}
    assert {*SERVICES, "grpc.health.v1.Health"} <= listed
    assert all(answer.file_descriptor_response.file_descriptor_proto for answer in answers[1:])


async def test_no_call_is_left_unimplemented(channel: grpc.aio.Channel) -> None:
    """Every method of the contract answers something else than UNIMPLEMENTED to an empty request."""
    from google.protobuf import descriptor_pool, message_factory

    unimplemented = []
    for service in SERVICES:
        descriptor = descriptor_pool.Default().FindServiceByName(service)
        for method in descriptor.methods:
            request = message_factory.GetMessageClass(method.input_type)()
            path = f"/{service}/{method.name}"
            serialize = type(request).SerializeToString
            try:
                if method.client_streaming:
                    await channel.stream_unary(path, request_serializer=serialize)(iter([request]))
                elif method.server_streaming:
                    stream: Any = channel.unary_stream(path, request_serializer=serialize)(request)
                    async for _message in stream:
                        break
                else:
                    await channel.unary_unary(path, request_serializer=serialize)(request)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    unimplemented.append(path)
    assert unimplemented == []


async def test_health_tells_of_a_database_that_is_gone_and_back(
    channel: grpc.aio.Channel, test_database: TestDatabase
) -> None:
    memory: Any = ConversationMemoryServiceStub(channel)
    administrator = await asyncpg.connect(test_database.urls.for_role("postgres", "postgres"))
    await administrator.execute(f"ALTER DATABASE {test_database.name} ALLOW_CONNECTIONS false")
    await administrator.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", test_database.name
    )

    async def is_health(wanted: int) -> bool:
        return await health_of(channel) == wanted

    await until(lambda: is_health(NOT_SERVING))
    with pytest.raises(grpc.aio.AioRpcError) as unavailable:
        await memory.ListTurns(pb.ListTurnsRequest())
    assert unavailable.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason(unavailable.value) == "DATABASE_UNAVAILABLE"
    assert details(unavailable.value, RetryInfo)
    await administrator.execute(f"ALTER DATABASE {test_database.name} ALLOW_CONNECTIONS true")
    await administrator.close()
    await until(lambda: is_health(SERVING))
    assert (await memory.ListTurns(pb.ListTurnsRequest())).turns == []


async def test_a_full_pool_is_said_at_once_with_when_to_come_back(
    start_sidecar: Callable[..., Any], test_database: TestDatabase
) -> None:
    blocker = await asyncpg.connect(test_database.owner_url)
    async with (
        start_sidecar(pool_size=1, pool_wait_seconds=0.2) as sidecar,
        grpc.aio.insecure_channel(sidecar.address) as channel,
    ):
        memory: Any = ConversationMemoryServiceStub(channel)
        await memory.ListTurns(pb.ListTurnsRequest())
        await blocker.execute("BEGIN; LOCK TABLE conversation_embeddings IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.ensure_future(memory.ListTurns(pb.ListTurnsRequest()))
        await asyncio.sleep(0.2)
        with pytest.raises(grpc.aio.AioRpcError) as full:
            await memory.ListTurns(pb.ListTurnsRequest())
        assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason(full.value) == "DATABASE_POOL_EXHAUSTED"
        assert details(full.value, RetryInfo)
        await blocker.execute("ROLLBACK")
        assert (await waiting).turns == []
    await blocker.close()


async def test_a_deadline_reaches_the_database(
    sidecar: RunningSidecar, channel: grpc.aio.Channel, test_database: TestDatabase
) -> None:
    """The statement ends with the call: nothing goes on running for a caller who has left."""
    blocker = await asyncpg.connect(test_database.owner_url)
    await blocker.execute("BEGIN; LOCK TABLE conversation_embeddings IN ACCESS EXCLUSIVE MODE")
    memory: Any = ConversationMemoryServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await memory.ListTurns(pb.ListTurnsRequest(), timeout=0.5)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    async def nothing_waits() -> bool:
        return not await blocker.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )

    await until(nothing_waits)
    await blocker.execute("ROLLBACK")
    await blocker.close()
    assert (await memory.ListTurns(pb.ListTurnsRequest())).turns == []


async def test_a_taken_address_is_refused_with_what_to_do(
    sidecar: RunningSidecar, start_sidecar: Callable[..., Any]
) -> None:
    with pytest.raises(SetupError, match="cannot be listened on"):
        async with start_sidecar(listen=sidecar.address):
            pass


async def test_a_unix_socket_works_too(start_sidecar: Callable[..., Any], tmp_path: Any) -> None:
    async with (
        start_sidecar(listen=f"unix:{tmp_path}/memsidecar.sock") as sidecar,
        grpc.aio.insecure_channel(sidecar.address) as channel,
    ):
        assert await health_of(channel) == SERVING
        assert (tmp_path / "memsidecar.sock").stat().st_mode & 0o777 == 0o660
