"""Limits of tenants: how often they may call, how much they may keep, and what they are told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import pytest
from google.rpc.error_details_pb2 import QuotaFailure, RetryInfo

from memsidecar.domain.call_rates import BURST_SECONDS, CallRates
from memsidecar.domain.caller import Caller
from memsidecar.domain.errors import QuotaExceeded
from memsidecar.domain.quotas import Quota
from memsidecar.domain.storage_quota import COUNT_SECONDS, NEAR_COUNT_SECONDS, StorageQuota
from memsidecar.domain.tenants import TenantSettings
from memsidecar.rpc import authentication
from memsidecar.v1 import conversation_memory_pb2 as pb
from memsidecar.v1 import documents_pb2
from memsidecar.v1.documents_pb2_grpc import DocumentServiceStub
from tests.rpc.statuses import details, reason
from tests.rpc.test_authentication import Client, bearer, client
from tests.rpc.test_conversation_memory import turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

__all__ = ["client"]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_rate_is_an_average_over_ten_seconds() -> None:
    clock = Clock()
    rates = CallRates(clock)
    burst = [rates.count("ours", 5) for _ in range(int(5 * BURST_SECONDS) + 1)]
    assert burst[:-1] == [0.0] * 50
    assert burst[-1] == pytest.approx(0.2)
    assert rates.count("theirs", 5) == 0.0
    clock.now += 1
    assert [rates.count("ours", 5) > 0 for _ in range(6)] == [False] * 5 + [True]
    clock.now += 1_000
    assert sum(rates.count("ours", 5) == 0 for _ in range(100)) == 50


class Usage:
    """Counts what a test says is there, and how often it was asked."""

    def __init__(self) -> None:
        self.turns = 0
        self.counts = 0

    async def count_turns(self, _tenant_id: UUID, *, deadline: float | None) -> int:
        del deadline
        self.counts += 1
        await asyncio.sleep(0)
        return self.turns

    async def sum_document_bytes(self, tenant_id: UUID, *, deadline: float | None) -> int:
        return await self.count_turns(tenant_id, deadline=deadline)


def caller_with(quota: Quota) -> Caller:
    return Caller(name="test", rights=frozenset(), tenant_id=uuid4(), quota=quota)


async def test_what_is_stored_is_counted_seldom_and_often_near_the_limit() -> None:
    clock, usage = Clock(), Usage()
    storage, caller = StorageQuota(usage, clock), caller_with(Quota(max_turns=100))
    for _ in range(89):
        await storage.add_turns(caller, 1)
    assert usage.counts == 1
    clock.now += COUNT_SECONDS
    usage.turns = 95  # another server stored six more
    await storage.add_turns(caller, 5)
    assert usage.counts == 2
    with pytest.raises(QuotaExceeded):
        await storage.add_turns(caller, 1)
    assert usage.counts == 2, "a tenant at its limit cannot make us count on every call"
    usage.turns = 50  # erased
    clock.now += NEAR_COUNT_SECONDS
    await storage.add_turns(caller, 50)
    with pytest.raises(QuotaExceeded) as refused:
        await storage.add_turns(caller, 1)
    assert refused.value.violations[0].subject == "turns"
    usage.turns = 0
    await storage.add_turns(caller_with(Quota(max_turns=1)), 1)
    await storage.add_turns(caller_with(Quota()), 1_000_000)


async def test_calls_at_the_same_moment_do_not_pass_a_limit_together() -> None:
    usage = Usage()
    storage, caller = StorageQuota(usage), caller_with(Quota(max_turns=10))
    outcomes = await asyncio.gather(
        *(storage.add_turns(caller, 1) for _ in range(50)), return_exceptions=True
    )
    assert sum(outcome is None for outcome in outcomes) == 10
    assert usage.counts == 1


async def test_a_tenant_that_calls_too_often_is_told_when_to_come_back(
    client: Client, new_tenant: Callable[..., Awaitable[UUID]]
) -> None:
    limited = await client.secret(
        await new_tenant("limited", TenantSettings(quota=Quota(calls_per_second=1)))
    )
    other = await client.secret(await new_tenant("other"))
    allowed = 0

    async def call_on() -> None:
        nonlocal allowed
        while allowed < 100:
            await client.listed(limited)
            allowed += 1

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call_on()
    assert 10 <= allowed < 60
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(refused.value) == "QUOTA_EXCEEDED"
    [retry] = details(refused.value, RetryInfo)
    assert 0 < retry.retry_delay.ToTimedelta().total_seconds() <= 1
    [failure] = details(refused.value, QuotaFailure)
    assert failure.violations[0].subject == "calls_per_second"
    assert await client.listed(other) == []


async def test_a_full_tenant_is_refused_and_repetitions_are_not(
    client: Client, new_tenant: Callable[..., Awaitable[UUID]]
) -> None:
    secret = await client.secret(await new_tenant("small", TenantSettings(quota=Quota(max_turns=2))))
    event = {"event": pb.Event(source="test", event_id="1")}
    first = await client.append(secret, "first", **event)
    await client.append(secret, "second", event=pb.Event(source="test", event_id="2"))
    with pytest.raises(grpc.aio.AioRpcError) as full:
        await client.append(secret, "third")
    assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(full.value, QuotaFailure)[0].violations[0].subject == "turns"
    assert details(full.value, RetryInfo) == [], "waiting does not help"
    again = await client.append(secret, "first", **event)
    assert (again.turn.turn_id, again.turn.repeated) == (first.turn.turn_id, True)
    deletion = turn(
        "", action=pb.TURN_ACTION_DELETED, target=pb.Event(source="test", event_id="2"),
        event=pb.Event(source="test", event_id="3"),
    )  # fmt: skip
    await client.memory.AppendTurn(pb.AppendTurnRequest(turn=deletion), metadata=bearer(secret))
    assert await client.listed(secret) == ["first"]


async def test_documents_have_a_limit_too(client: Client, new_tenant: Callable[..., Awaitable[UUID]]) -> None:
    quota = Quota(max_document_bytes=100)
    secret = await client.secret(await new_tenant("small", TenantSettings(quota=quota)))
    documents: Any = DocumentServiceStub(client.channel)

    async def ingest(key: str, size: int, request_id: str = "") -> Any:
        document = documents_pb2.NewDocument(
            document_key=key,
            is_global=True,
            content=b"x" * size,
            document_type=documents_pb2.DOCUMENT_TYPE_TEXT,
        )
        return await documents.IngestDocument(
            documents_pb2.IngestDocumentRequest(document=document, request_id=request_id),
            metadata=bearer(secret),
        )

    stored = await ingest("a", 80, "once")
    with pytest.raises(grpc.aio.AioRpcError) as full:
        await ingest("b", 40)
    assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(full.value, QuotaFailure)[0].violations[0].subject == "document_bytes"
    assert (await ingest("a", 80, "once")).job.job_id == stored.job.job_id


async def test_the_servers_defaults_hold_where_a_tenant_has_no_limit(
    start_sidecar: Callable[..., Any],
) -> None:
    from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceStub

    async with (
        start_sidecar(max_turns=1) as sidecar,
        grpc.aio.insecure_channel(sidecar.address) as channel,
    ):
        memory: Any = ConversationMemoryServiceStub(channel)
        await memory.AppendTurn(pb.AppendTurnRequest(turn=turn("first")))
        with pytest.raises(grpc.aio.AioRpcError) as full:
            await memory.AppendTurn(pb.AppendTurnRequest(turn=turn("second")))
        assert reason(full.value) == "QUOTA_EXCEEDED"


async def test_whoever_tries_secrets_does_not_keep_others_out(
    client: Client, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "UNKNOWN_TOKENS_PER_SECOND", 2)
    known = await client.secret(tenant_id)
    assert await client.listed(known) == []
    codes = set()
    for number in range(100):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.listed(f"msc_{number}")
        codes.add(refused.value.code())
    assert codes == {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert details(refused.value, RetryInfo)
    await asyncio.sleep(authentication.TOKEN_CACHE_SECONDS + 0.1)
    assert await client.listed(known) == [], "a token in use is looked for again all the same"
