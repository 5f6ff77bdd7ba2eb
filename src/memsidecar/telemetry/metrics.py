"""The Prometheus metrics of this process.

Labels take values from short, fixed lists: methods, status codes, stages, lanes, strategies. What is counted elsewhere
already (the embedder, the connection pool) is read when somebody asks, so that it costs a call nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from memsidecar.domain.embedding import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from memsidecar.domain.embedding import LaneCounters, ModelIdentity
    from memsidecar.domain.observation import PoolUse

CALL_BUCKETS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
"""Seconds. Fine where a call that embeds one text ends (5 to 50 ms), coarse where only alerts look."""

STAGE_BUCKETS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    5.0,
)
"""Seconds."""


class Metrics:
    """Everything this process counts and times, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter(
            "memsidecar_calls",
            "Calls answered, by method and gRPC status code.",
            ("method", "code"),
            registry=self.registry,
        )
        self.call_seconds = Histogram(
            "memsidecar_call_duration_seconds",
            "Time from the request to the last byte of the answer, by method.",
            ("method",),
            buckets=CALL_BUCKETS,
            registry=self.registry,
        )
        self.calls_in_progress = Gauge(
            "memsidecar_calls_in_progress", "Calls being answered right now.", registry=self.registry
        )
        self.stage_seconds = Histogram(
            "memsidecar_stage_duration_seconds",
            "Time by stage and by who waits: queue per text; tokenise and embed per group of texts; pool, database and"
            " rank per use.",
            ("stage", "lane"),
            buckets=STAGE_BUCKETS,
            registry=self.registry,
        )
        self.searches = Counter(
            "memsidecar_searches",
            "Searches answered, by kind and by the strategy that found the rows.",
            ("search", "strategy"),
            registry=self.registry,
        )
        self.documents = Counter(
            "memsidecar_ingested_documents",
            "Documents that ingestion workers are done with, by outcome.",
            ("outcome",),
            registry=self.registry,
        )
        self.open_jobs = Gauge(
            "memsidecar_ingestion_open_jobs",
            "Ingestion jobs not done yet, over all tenants and replicas.",
            registry=self.registry,
        )
        self.ingestion_lag = Gauge(
            "memsidecar_ingestion_lag_seconds",
            "Age of the oldest ingestion job not done yet, over all tenants and replicas.",
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)

    def describe(
        self, *, version: str, postgres: str, pgvector: str, schema: str, model: ModelIdentity
    ) -> None:
        """Say once what runs here: versions and the identity of the model."""
        Info("memsidecar_build", "Versions of what runs.", registry=self.registry).info(
            {"version": version, "postgres": postgres, "pgvector": pgvector, "schema": schema}
        )
        Info("memsidecar_model", "Which model makes the vectors.", registry=self.registry).info(
            {
                "name": model.name,
                "precision": model.precision,
                "sha256": model.sha256,
                "dimensions": str(model.dimensions),
            }
        )

    def watch(
        self,
        *,
        pool: Callable[[], PoolUse],
        embedding: Callable[[Lane], LaneCounters] | None,
        serving: Callable[[], bool],
    ) -> None:
        """Read these when metrics are asked for."""
        self.registry.register(_Watched(pool, embedding, serving))

    def render(self, accept: str) -> tuple[str, bytes]:
        """Write all metrics in the form the reader prefers.

        Args:
            accept: The ``Accept`` header of the request.

        Returns:
            The content type and the body.
        """
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self.registry)


class _Watched(Collector):
    """Turns what others count into metrics."""

    def __init__(
        self,
        pool: Callable[[], PoolUse],
        embedding: Callable[[Lane], LaneCounters] | None,
        serving: Callable[[], bool],
    ) -> None:
        self._pool = pool
        self._embedding = embedding
        self._serving = serving

    def collect(self) -> Iterator[Metric]:
        """Read everything."""
        yield GaugeMetricFamily(
            "memsidecar_serving", "1 while the database answers and calls are taken.", float(self._serving())
        )
        yield from self._pool_metrics()
        if self._embedding is not None:
            yield from self._embedding_metrics(self._embedding)

    def _pool_metrics(self) -> Iterator[Metric]:
        use = self._pool()
        connections = GaugeMetricFamily(
            "memsidecar_database_connections", "Connections of the pool, by state.", labels=("state",)
        )
        connections.add_metric(("in_use",), use.in_use)
        connections.add_metric(("idle",), use.idle)
        yield connections
        yield GaugeMetricFamily("memsidecar_database_connections_limit", "Size of the pool.", use.limit)
        yield GaugeMetricFamily(
            "memsidecar_database_connections_waiting", "Use cases waiting for a connection.", use.waiting
        )

    @staticmethod
    def _embedding_metrics(embedding: Callable[[Lane], LaneCounters]) -> Iterator[Metric]:
        lane_label = ("lane",)
        queued = GaugeMetricFamily(
            "memsidecar_embedding_queued_texts", "Texts waiting for the model.", labels=lane_label
        )
        queued_tokens = GaugeMetricFamily(
            "memsidecar_embedding_queued_tokens",
            "Word pieces waiting for the model, estimated.",
            labels=lane_label,
        )
        texts = CounterMetricFamily(
            "memsidecar_embedding_texts",
            "Texts asked for: embedded, answered from memory (cached), in flight for another call already (joined),"
            " or not run because nobody waited any more (dropped).",
            labels=("lane", "outcome"),
        )
        tokens = CounterMetricFamily(
            "memsidecar_embedding_tokens", "Word pieces embedded.", labels=lane_label
        )
        refused = CounterMetricFamily(
            "memsidecar_embedding_refused", "Calls refused because the queue was too long.", labels=lane_label
        )
        for lane in Lane:
            counters = embedding(lane)
            queued.add_metric((lane.value,), counters.queued_texts)
            queued_tokens.add_metric((lane.value,), counters.queued_tokens)
            texts.add_metric((lane.value, "embedded"), counters.texts)
            texts.add_metric((lane.value, "cached"), counters.cached)
            texts.add_metric((lane.value, "joined"), counters.joined)
            texts.add_metric((lane.value, "dropped"), counters.dropped)
            tokens.add_metric((lane.value,), counters.tokens)
            refused.add_metric((lane.value,), counters.refused)
        yield from (queued, queued_tokens, texts, tokens, refused)
