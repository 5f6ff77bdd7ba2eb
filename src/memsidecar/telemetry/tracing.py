"""OpenTelemetry traces: a span for each call, its stages and its statements, as children of the caller's span.

The OpenTelemetry SDK reads its own standard variables (``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``,
``OTEL_TRACES_SAMPLER``, ``OTEL_EXPORTER_OTLP_*``, ``OTEL_BSP_*``, ``OTEL_PROPAGATORS``). Spans name methods, stages and
statements; they never hold a parameter, a text or an id of a tenant or user.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Self

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from memsidecar.domain.embedding import Lane
from memsidecar.domain.observation import REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from uuid import UUID

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

    from memsidecar.domain.embedding import Embedder, Embedding, ModelIdentity
    from memsidecar.domain.observation import Stage

_SERVER_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Statuses that make a server's span an error, by the semantic conventions of OpenTelemetry for gRPC."""


def open_exporter(exporter: str, protocol: str) -> SpanExporter:
    """Make the exporter that the standard variables ask for.

    Args:
        exporter: ``otlp`` or ``console``.
        protocol: For ``otlp``: ``http/protobuf`` or ``grpc``.
    """
    if exporter == "console":
        return ConsoleSpanExporter()
    # Only the one that is asked for is loaded: each costs memory.
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter as GrpcExporter,
        )

        return GrpcExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter as HttpExporter,
    )

    return HttpExporter()


class Tracing:
    """Makes spans and sends them in the background.

    Args:
        exporter: Where they go.
        version: Version of this program.
    """

    def __init__(self, exporter: SpanExporter, *, version: str) -> None:
        self._provider = TracerProvider(resource=_resource(version), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("memsidecar", version)

    def call(self, method: str, metadata: Mapping[str, str]) -> CallSpan:
        """Begin the span of a call, within the caller's trace when the metadata name one."""
        return CallSpan(self._tracer, method, propagate.extract(metadata))

    def stage(self, stage: Stage) -> AbstractContextManager[object]:
        """Make the span of a stage; work outside of a call has none."""
        return self.inner(stage.value)

    def inner(self, name: str) -> AbstractContextManager[object]:
        """Make a span within the running call's."""
        return _InnerSpan(self._tracer, name)

    def statement(self, name: str, seconds: float) -> None:
        """Make the span of a statement that just ended."""
        # It may be told just after the transaction around it, whose span is still the current one, has ended.
        if not trace.get_current_span().get_span_context().trace_flags.sampled:
            return
        ended = time.time_ns()
        span = self._tracer.start_span(
            name,
            kind=SpanKind.CLIENT,
            attributes={"db.system.name": "postgresql", "db.query.summary": name},
            start_time=ended - int(seconds * 1e9),
        )
        span.end(ended)

    def traced(self, embedder: Embedder) -> Embedder:
        """Wrap an embedder so that the waits of its callers are spans."""
        return _TracedEmbedder(embedder, self)

    async def close(self) -> None:
        """Send what is left, for as long as ``OTEL_BSP_EXPORT_TIMEOUT`` says, and stop."""
        await asyncio.to_thread(self._provider.shutdown)


def _resource(version: str) -> Resource:
    """Describe this service; what the environment says of it wins."""
    described = Resource({"service.version": version}).merge(Resource.create())
    if str(described.attributes["service.name"]).startswith("unknown_service"):
        described = described.merge(Resource({"service.name": "memsidecar"}))
    return described


class CallSpan(AbstractContextManager["CallSpan"]):
    """The span of a call, current within the block."""

    def __init__(self, tracer: Tracer, method: str, parent: Context) -> None:
        self._span = tracer.start_span(
            method,
            context=parent,
            kind=SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": method, "request_id": REQUEST_ID.get()},
        )
        self._current = trace.use_span(self._span, end_on_exit=True)

    def __enter__(self) -> Self:
        self._current.__enter__()
        return self

    def end_with(self, code: str) -> None:
        """Say how the call ends."""
        self._span.set_attribute("rpc.response.status_code", code)
        if code in _SERVER_FAULTS:
            self._span.set_status(StatusCode.ERROR)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._current.__exit__(None, None, None)


class _InnerSpan(AbstractContextManager[None]):
    def __init__(self, tracer: Tracer, name: str) -> None:
        self._tracer = tracer
        self._name = name
        self._current: AbstractContextManager[Span] | None = None

    def __enter__(self) -> None:
        if trace.get_current_span().get_span_context().trace_flags.sampled:
            self._current = trace.use_span(self._tracer.start_span(self._name), end_on_exit=True)
            self._current.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._current is not None:
            self._current.__exit__(None, None, None)


class _TracedEmbedder:
    """Implements ``domain.embedding.Embedder``."""

    def __init__(self, embedder: Embedder, tracing: Tracing) -> None:
        self._embedder = embedder
        self._tracing = tracing

    @property
    def model(self) -> ModelIdentity:
        """See the port."""
        return self._embedder.model

    async def embed(
        self,
        texts: Sequence[str],
        *,
        owner: UUID | None = None,
        lane: Lane = Lane.INTERACTIVE,
        deadline: float | None = None,
    ) -> list[Embedding]:
        """See the port."""
        with self._tracing.inner("embed"):
            return await self._embedder.embed(texts, owner=owner, lane=lane, deadline=deadline)

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        """See the port."""
        return self._embedder.token_offsets(text)
