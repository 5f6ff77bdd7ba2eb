"""A trace from the caller through the stages into SQL, as a real collector receives it over OTLP."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from memsidecar.config import Config
from memsidecar.v1 import common_pb2
from memsidecar.v1 import conversation_memory_pb2 as pb
from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import TestDatabase

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"


class Collector:
    """Receives spans over OTLP/HTTP."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        received = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                received.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    running = Collector()
    running.thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.endpoint)
    yield running
    running.server.shutdown()
    running.thread.join()
    running.server.server_close()


async def test_the_callers_trace_goes_through_the_stages_into_sql(
    start_measured_sidecar: Callable[..., Any], collector: Collector, test_database: TestDatabase
) -> None:
    secret = "The vault opens at dawn."
    user_id = "user-in-no-span"
    async with (
        start_measured_sidecar(otlp_endpoint=collector.endpoint) as sidecar,
        grpc.aio.insecure_channel(sidecar.address) as channel,
    ):
        stub: Any = ConversationMemoryServiceStub(channel)
        turn = pb.NewTurn(
            agent_id=str(uuid4()),
            user_id=user_id,
            conversation_id="C9",
            role=common_pb2.ROLE_USER,
            content=secret,
        )
        await stub.AppendTurn(
            pb.AppendTurnRequest(turn=turn),
            metadata=(("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"), ("x-request-id", "seen-in-span")),
        )
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetTurn(pb.GetTurnRequest(turn_id="nonsense"))
    spans = {span.name: span for span in collector.spans if span.trace_id.hex() == TRACE_ID}
    call = spans["AppendTurn"]
    assert call.parent_span_id.hex() == PARENT_ID
    attributes = {attribute.key: attribute.value.string_value for attribute in call.attributes}
    assert attributes["rpc.response.status_code"] == "OK"
    assert attributes["request_id"] == "seen-in-span"
    for child in ("embed", "pool", "database"):
        assert spans[child].parent_span_id == call.span_id, child
    for statement in ("BEGIN", "append_turns", "COMMIT"):
        assert spans[statement].parent_span_id == spans["database"].span_id, statement
        assert spans["database"].start_time_unix_nano <= spans[statement].end_time_unix_nano
    # A caller without a trace begins one of the server's own; a caller's mistake is not the server's error.
    [refused] = [span for span in collector.spans if span.name == "GetTurn"]
    assert refused.parent_span_id == b""
    assert refused.status.code == 0
    connection = await asyncpg.connect(test_database.superuser_url)
    tenant_id = str(await connection.fetchval("SELECT id FROM tenants"))
    await connection.close()
    everything = "\n".join(str(request) for request in collector.requests)
    for hidden in (secret, user_id, turn.agent_id, tenant_id, "app.current_tenant"):
        assert hidden not in everything
    assert 'string_value: "memsidecar"' in everything


async def test_work_nobody_called_for_makes_no_spans(
    start_measured_sidecar: Callable[..., Any], collector: Collector
) -> None:
    """Health checks and the search for ingestion work run every second."""
    async with start_measured_sidecar(otlp_endpoint=collector.endpoint):
        pass
    assert collector.spans == []


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4318/v1/traces"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "TRUE"}, None),
    ],
)
def test_traces_are_made_when_the_standard_variables_ask_for_them(
    environment: dict[str, str], wanted: str | None
) -> None:
    assert Config.from_environment(environment).traces == wanted
