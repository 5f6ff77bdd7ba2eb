"""Turns what is observed into metrics and, where wanted, spans. Implements ``domain.observation.Observer``."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Self

from memsidecar.domain.embedding import Lane
from memsidecar.domain.observation import REQUEST_ID, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from prometheus_client import Histogram

    from memsidecar.telemetry.metrics import Metrics
    from memsidecar.telemetry.tracing import Tracing


class TelemetryObserver:
    """Measures.

    Args:
        metrics: Where numbers go.
        tracing: Where spans go; None makes none.
    """

    def __init__(self, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._metrics = metrics
        self._tracing = tracing
        self._stages: dict[tuple[Stage, Lane], Histogram] = {
            (stage, lane): metrics.stage_seconds.labels(stage.value, lane.value)
            for stage in Stage
            for lane in Lane
        }

    @property
    def wants_statements(self) -> bool:
        """Statements are seen in traces only."""
        return self._tracing is not None

    def call(self, method: str, metadata: Mapping[str, str]) -> AbstractContextManager[_Call]:
        """Count and time a call; see the port."""
        return _Call(self._metrics, self._tracing, method, metadata)

    def stage(self, stage: Stage) -> AbstractContextManager[None]:
        """Time a stage; see the port."""
        lane = Lane.INTERACTIVE if REQUEST_ID.get() else Lane.BACKGROUND
        span = self._tracing.stage(stage) if self._tracing is not None else None
        return _Timer(self._stages[stage, lane], span)

    def spent(self, stage: Stage, lane: Lane, seconds: float) -> None:
        """Record time; see the port."""
        self._stages[stage, lane].observe(seconds)

    def statement(self, name: str, seconds: float) -> None:
        """Make the span of a statement; see the port."""
        if self._tracing is not None:
            self._tracing.statement(name, seconds)

    def searched(self, search: str, strategy: str) -> None:
        """Count a search; see the port."""
        self._metrics.searches.labels(search, strategy).inc()

    def ingested(self, outcome: str) -> None:
        """Count a document; see the port."""
        self._metrics.documents.labels(outcome).inc()


class _Call(AbstractContextManager["_Call"]):
    __slots__ = ("_metadata", "_method", "_metrics", "_span", "_started", "_tracing", "code")

    def __init__(
        self, metrics: Metrics, tracing: Tracing | None, method: str, metadata: Mapping[str, str]
    ) -> None:
        self.code = "OK"
        self._metrics = metrics
        self._tracing = tracing
        self._method = method
        self._metadata = metadata

    def __enter__(self) -> Self:
        self._metrics.calls_in_progress.inc()
        self._span = None if self._tracing is None else self._tracing.call(self._method, self._metadata)
        if self._span is not None:
            self._span.__enter__()
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        elapsed = time.perf_counter() - self._started
        if self._span is not None:
            self._span.end_with(self.code)
            self._span.__exit__(None, None, None)
        self._metrics.calls_in_progress.dec()
        self._metrics.calls.labels(self._method, self.code).inc()
        self._metrics.call_seconds.labels(self._method).observe(elapsed)


class _Timer(AbstractContextManager[None]):
    __slots__ = ("_histogram", "_span", "_started")

    def __init__(self, histogram: Histogram, span: AbstractContextManager[object] | None) -> None:
        self._histogram = histogram
        self._span = span

    def __enter__(self) -> None:
        if self._span is not None:
            self._span.__enter__()
        self._started = time.perf_counter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._histogram.observe(time.perf_counter() - self._started)
        if self._span is not None:
            self._span.__exit__(None, None, None)
