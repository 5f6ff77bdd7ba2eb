"""What on-call reads, after real calls to a real server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import grpc
import pytest

from memsidecar import __version__
from memsidecar.rpc.server import SERVICES
from memsidecar.v1 import common_pb2
from memsidecar.v1 import conversation_memory_pb2 as pb
from memsidecar.v1 import documents_pb2 as documents
from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceStub
from memsidecar.v1.documents_pb2_grpc import DocumentServiceStub
from tests.telemetry.http_client import read_metrics

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from memsidecar.app import RunningSidecar
    from tests.conftest import TestDatabase

ALLOWED_LABELS = {
    "code",
    "dimensions",
    "lane",
    "le",
    "method",
    "name",
    "outcome",
    "pgvector",
    "postgres",
    "precision",
    "schema",
    "search",
    "sha256",
    "stage",
    "state",
    "strategy",
    "version",
}


def a_turn(content: str, user_id: str = "U024BE7LH", agent_id: str = "") -> pb.NewTurn:
    return pb.NewTurn(
        agent_id=agent_id or str(uuid4()),
        user_id=user_id,
        conversation_id="C1/1712.2",
        role=common_pb2.ROLE_USER,
        content=content,
    )


async def append(channel: grpc.aio.Channel, turn: pb.NewTurn) -> None:
    stub: Any = ConversationMemoryServiceStub(channel)
    await stub.AppendTurn(pb.AppendTurnRequest(turn=turn))


async def test_an_append_and_a_recall_show_where_their_time_went(measured_sidecar: RunningSidecar) -> None:
    async with grpc.aio.insecure_channel(measured_sidecar.address) as channel:
        stub: Any = ConversationMemoryServiceStub(channel)
        before = await read_metrics(measured_sidecar.admin_address)
        await append(channel, a_turn("The spare key hangs behind the boiler."))
        await stub.RecallSimilar(pb.RecallSimilarRequest(query="where is the key"))
        await stub.RecallSimilar(pb.RecallSimilarRequest(query="where is the key"))
        after = await read_metrics(measured_sidecar.admin_address)

    def grown(name: str, **labels: str) -> float:
        return after.value(name, labels) - before.value(name, labels)

    assert grown("memsidecar_calls_total", method="AppendTurn", code="OK") == 1
    assert grown("memsidecar_calls_total", method="RecallSimilar", code="OK") == 2
    assert grown("memsidecar_call_duration_seconds_count", method="RecallSimilar") == 2
    assert grown("memsidecar_call_duration_seconds_sum", method="AppendTurn") > 0
    assert grown("memsidecar_searches_total", search="recall") == 2
    assert grown("memsidecar_embedding_texts_total", lane="interactive", outcome="embedded") == 2
    assert grown("memsidecar_embedding_texts_total", lane="interactive", outcome="cached") == 1
    assert grown("memsidecar_embedding_tokens_total", lane="interactive") > 10
    for stage, count in {"queue": 2, "tokenise": 2, "embed": 2, "rank": 2}.items():
        times = grown("memsidecar_stage_duration_seconds_count", stage=stage, lane="interactive")
        assert times == count, stage
    for stage in ("pool", "database"):
        assert grown("memsidecar_stage_duration_seconds_count", stage=stage, lane="interactive") >= 3, stage
    assert grown("memsidecar_stage_duration_seconds_sum", stage="embed") < grown(
        "memsidecar_call_duration_seconds_sum"
    )
    assert after.value("memsidecar_calls_in_progress") == 0
    assert after.value("memsidecar_embedding_queued_texts") == 0
    assert after.value("memsidecar_serving") == 1
    assert after.value("process_resident_memory_bytes") > 1_000_000


async def test_what_runs_is_said(measured_sidecar: RunningSidecar) -> None:
    labels = (await read_metrics(measured_sidecar.admin_address)).labels
    assert ("version", __version__) in labels
    assert ("postgres", measured_sidecar.facts.postgres_version) in labels
    assert ("name", "all-MiniLM-L6-v2") in labels
    assert {value for name, value in labels if name == "dimensions"} == {"384"}
    assert all(len(value) == 64 for name, value in labels if name == "sha256")


async def test_failures_count_under_their_code(measured_sidecar: RunningSidecar) -> None:
    async with grpc.aio.insecure_channel(measured_sidecar.address) as channel:
        stub: Any = ConversationMemoryServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.AppendTurn(pb.AppendTurnRequest(turn=a_turn("")))
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetTurn(pb.GetTurnRequest(turn_id=str(uuid4())))
    metrics = await read_metrics(measured_sidecar.admin_address)
    assert metrics.value("memsidecar_calls_total", {"method": "AppendTurn", "code": "INVALID_ARGUMENT"}) == 1
    assert metrics.value("memsidecar_calls_total", {"method": "GetTurn", "code": "NOT_FOUND"}) == 1


async def test_callers_who_leave_count_as_what_they_saw(
    measured_sidecar: RunningSidecar, test_database: TestDatabase
) -> None:
    blocker = await asyncpg.connect(test_database.owner_url)
    await blocker.execute("BEGIN; LOCK TABLE conversation_embeddings IN ACCESS EXCLUSIVE MODE")
    async with grpc.aio.insecure_channel(measured_sidecar.address) as channel:
        stub: Any = ConversationMemoryServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ListTurns(pb.ListTurnsRequest(), timeout=0.3)
        leaving = stub.ListConversations(pb.ListConversationsRequest())
        await asyncio.sleep(0.3)
        leaving.cancel()
        codes: dict[str, float] = {}
        async with asyncio.timeout(10):
            while sum(codes.values()) < 2:
                metrics = await read_metrics(measured_sidecar.admin_address)
                codes = {
                    code: metrics.value("memsidecar_calls_total", {"code": code})
                    for code in ("DEADLINE_EXCEEDED", "CANCELLED", "OK", "UNKNOWN")
                }
    await blocker.execute("ROLLBACK")
    await blocker.close()
    assert codes == {"DEADLINE_EXCEEDED": 1, "CANCELLED": 1, "OK": 0, "UNKNOWN": 0}


async def test_a_pool_that_is_waited_for_shows(
    start_measured_sidecar: Callable[..., Any], test_database: TestDatabase
) -> None:
    blocker = await asyncpg.connect(test_database.owner_url)
    async with (
        start_measured_sidecar(pool_size=1) as sidecar,
        grpc.aio.insecure_channel(sidecar.address) as channel,
    ):
        stub: Any = ConversationMemoryServiceStub(channel)
        await stub.ListTurns(pb.ListTurnsRequest())
        await blocker.execute("BEGIN; LOCK TABLE conversation_embeddings IN ACCESS EXCLUSIVE MODE")
        calls = [asyncio.ensure_future(stub.ListTurns(pb.ListTurnsRequest())) for _ in range(3)]
        metrics = await read_metrics(sidecar.admin_address)
        async with asyncio.timeout(10):
            while (
                metrics.value("memsidecar_database_connections_waiting") < 2
                or metrics.value("memsidecar_calls_in_progress") < 3
            ):
                metrics = await read_metrics(sidecar.admin_address)
        assert metrics.value("memsidecar_database_connections", {"state": "in_use"}) == 1
        assert metrics.value("memsidecar_database_connections", {"state": "idle"}) == 0
        assert metrics.value("memsidecar_database_connections_limit") == 1
        assert metrics.value("memsidecar_calls_in_progress") == 3
        await blocker.execute("ROLLBACK")
        await asyncio.gather(*calls)
    await blocker.close()


async def test_a_document_taken_in_is_counted_with_its_outcome(measured_sidecar: RunningSidecar) -> None:
    async with grpc.aio.insecure_channel(measured_sidecar.address) as channel:
        stub: Any = DocumentServiceStub(channel)
        document = documents.NewDocument(
            document_key="keys.md", is_global=True, content=b"# Keys\n\nBehind the boiler.\n"
        )
        for _ in range(2):
            answer = await stub.IngestDocuments(iter([documents.IngestDocumentsRequest(document=document)]))
            watch = documents.WatchIngestionJobRequest(job_id=answer.job.job_id)
            async for _progress in stub.WatchIngestionJob(watch):
                pass
    counted = "memsidecar_ingested_documents_total"
    metrics = await read_metrics(measured_sidecar.admin_address)
    async with asyncio.timeout(10):
        while metrics.value(counted) < 2:
            metrics = await read_metrics(measured_sidecar.admin_address)
    assert metrics.value(counted, {"outcome": "stored"}) == 1
    assert metrics.value(counted, {"outcome": "unchanged"}) == 1
    assert metrics.value(counted) == 2
    assert metrics.value("memsidecar_calls_total", {"method": "WatchIngestionJob", "code": "OK"}) == 2
    embedded = {"stage": "embed", "lane": "background"}
    assert metrics.value("memsidecar_stage_duration_seconds_count", embedded) >= 1


async def test_work_that_waits_shows_its_age(
    start_measured_sidecar: Callable[..., Any], test_database: TestDatabase, tenant_id: UUID
) -> None:
    """Somebody else holds a job submitted a while ago; jobs that are still arriving do not wait for anybody."""
    connection = await asyncpg.connect(test_database.superuser_url)
    for receiving in (False, True):
        await connection.execute(
            "INSERT INTO ingestion_jobs (tenant_id, id, requested_by, receiving, created_at, lease_expires_at)"
            " VALUES ($1, $2, 'test', $3, now() - interval '90 seconds', now() + interval '1 hour')",
            tenant_id,
            uuid4(),
            receiving,
        )
    await connection.close()
    async with start_measured_sidecar() as sidecar, asyncio.timeout(10):
        metrics = await read_metrics(sidecar.admin_address)
        while metrics.value("memsidecar_ingestion_open_jobs") == 0:
            metrics = await read_metrics(sidecar.admin_address)
    assert metrics.value("memsidecar_ingestion_open_jobs") == 1
    assert 90 <= metrics.value("memsidecar_ingestion_lag_seconds") < 200


async def test_no_metric_holds_what_was_said_or_by_whom(
    measured_sidecar: RunningSidecar, test_database: TestDatabase
) -> None:
    turn = a_turn("My locker code is 7719.", user_id="user-with-a-name", agent_id=str(uuid4()))
    async with grpc.aio.insecure_channel(measured_sidecar.address) as channel:
        stub: Any = ConversationMemoryServiceStub(channel)
        await append(channel, turn)
        await stub.RecallSimilar(
            pb.RecallSimilarRequest(query="the locker", scope=pb.TurnScope(user_id="user-with-a-name"))
        )
    connection = await asyncpg.connect(test_database.superuser_url)
    tenant_id = str(await connection.fetchval("SELECT id FROM tenants"))
    await connection.close()
    labels = (await read_metrics(measured_sidecar.admin_address)).labels
    assert {name for name, _value in labels} <= ALLOWED_LABELS
    values = "\n".join(value for _name, value in labels)
    for secret in ("7719", "locker", "user-with-a-name", turn.agent_id, tenant_id, "C1/1712.2"):
        assert secret not in values


def test_a_method_is_known_by_its_name_alone() -> None:
    """The label holds no service: names must not repeat."""
    from google.protobuf import descriptor_pool

    names = [
        method.name
        for service in SERVICES
        for method in descriptor_pool.Default().FindServiceByName(service).methods
    ]
    assert len(names) == len(set(names))
