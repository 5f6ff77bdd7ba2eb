"""The embedding engine against the bare graph: rate, groups, lanes, memory and (with ``--data``) retrieval quality.

Every ratio compares things measured in turns within one run, so that whatever else the machine does falls on both
sides. Without ``--data`` the texts are made up, with lengths spread like those of chat turns.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.bare_graph import BareGraph, layouts
from benchmarks.chat_texts import chat_texts, made_up_texts
from benchmarks.resident_memory import PATIENCE
from benchmarks.retrieval_quality import measure_quality
from memsidecar.config import Config
from memsidecar.domain.embedding import Lane
from memsidecar.embedding.cpu_limit import usable_processors
from memsidecar.embedding.engine import OnnxEmbedder
from memsidecar.embedding.install import install_model
from memsidecar.embedding.model_files import Precision, open_installed
from memsidecar.embedding.tokenization import WordPieceTokenizer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.options import Options

CALLERS = 32
_MIXED = "engine, lengths as they come"
_SORTED = "engine, sorted by length"


def run(options: Options) -> dict[str, Any]:
    """Measure and print the tables."""
    root = Config.from_environment().model_directory
    install_model(root)
    figures: dict[str, Any] = {}
    for precision in Precision:
        print(f"\n{precision}")
        figures[precision] = {
            **asyncio.run(_rates(root, precision, options)),
            **asyncio.run(_lanes(root, precision, options)),
            "memory": _memory(root, precision, options),
        }
    if options.data is not None:
        figures["quality"] = {
            precision: asyncio.run(_quality(root, precision, options.data, documents=not options.quick))
            for precision in Precision
        }
        _print_quality(figures["quality"])
    return figures


async def _rates(root: Path, precision: Precision, options: Options) -> dict[str, Any]:
    """Texts per second of every bare layout and of the engine, in turns over the same texts."""
    model = open_installed(root, precision)
    tokenizer = WordPieceTokenizer(model.tokenizer)
    rounds, size = (5, 96) if options.quick else (15, 128)
    texts = chat_texts(options.data, rounds * size)
    graphs = [BareGraph(model, layout) for layout in layouts(usable_processors())]
    stopwatches: dict[str, _Stopwatch] = defaultdict(_Stopwatch)
    async with OnnxEmbedder(model, cached_texts=0, patience=PATIENCE) as embedder:
        for number in range(-1, rounds):
            # Round -1 warms everything up on the first slice.
            slice_ = texts[max(number, 0) * size :][:size]
            ids = [tokenizer.encode(text).ids for text in slice_]
            for graph in graphs:
                with stopwatches[graph.layout.name].lap():
                    await asyncio.to_thread(graph.seconds_for, ids)
            for name, given in ((_MIXED, slice_), (_SORTED, sorted(slice_, key=len))):
                with stopwatches[name].lap():
                    await _closed_loop(given, embedder)
            if number == -1:
                stopwatches.clear()
        counters = embedder.counters(Lane.INTERACTIVE)
    for name, stopwatch in stopwatches.items():
        print(
            f"  {stopwatch.rate(size):7.1f} texts/s {stopwatch.processor_ms(size):7.2f} ms of a core each  {name}"
        )
    floor = max((graph.layout.name for graph in graphs), key=lambda name: stopwatches[name].rate(size))
    figures = {
        "texts_per_second": {name: round(watch.rate(size), 1) for name, watch in stopwatches.items()},
        "processor_ms_per_text": {
            name: round(watch.processor_ms(size), 2) for name, watch in stopwatches.items()
        },
        "floor": floor,
        "engine_to_floor": _ratio(stopwatches[floor].seconds, stopwatches[_MIXED].seconds),
        "mixed_to_sorted": _ratio(stopwatches[_SORTED].seconds, stopwatches[_MIXED].seconds),
        "texts_per_group": round(counters.texts / counters.groups, 2),
        "tokenising_share": round(
            counters.tokenise_seconds / (counters.tokenise_seconds + counters.run_seconds), 4
        ),
    }
    print(
        f"  engine / floor {figures['engine_to_floor']:.3f}, mixed / sorted {figures['mixed_to_sorted']:.3f}"
    )
    return figures


class _Stopwatch:
    """Wall clock and processor time of laps over equally many texts."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.processor_seconds: list[float] = []

    @contextmanager
    def lap(self) -> Iterator[None]:
        started, processor = time.perf_counter(), time.process_time()
        yield
        self.seconds.append(time.perf_counter() - started)
        self.processor_seconds.append(time.process_time() - processor)

    def rate(self, texts: int) -> float:
        return texts / statistics.median(self.seconds)

    def processor_ms(self, texts: int) -> float:
        return 1000 * statistics.median(self.processor_seconds) / texts


def _ratio(other: Sequence[float], ours: Sequence[float]) -> float:
    """Median over rounds of our rate to the other one, from the seconds both took for the same texts."""
    return round(statistics.median(theirs / mine for theirs, mine in zip(other, ours, strict=True)), 3)


async def _closed_loop(texts: Sequence[str], embedder: OnnxEmbedder) -> None:
    remaining = iter(texts)

    async def call() -> None:
        for text in remaining:
            await embedder.embed([text])

    await asyncio.gather(*(call() for _ in range(CALLERS)))


async def _lanes(root: Path, precision: Precision, options: Options) -> dict[str, Any]:
    """How long a query waits for its vector alone, and while ingestion keeps the engine busy."""
    queries = made_up_texts(150 if options.quick else 500, seed=23)
    chunks = [" ".join(made_up_texts(8, seed=1000 + number)) for number in range(64)]
    async with OnnxEmbedder(open_installed(root, precision), cached_texts=0, patience=PATIENCE) as embedder:

        async def ask() -> list[float]:
            seconds = []
            for query in queries:
                started = time.perf_counter()
                await embedder.embed([query[:80]])
                seconds.append(time.perf_counter() - started)
                await asyncio.sleep(0.005)
            return sorted(seconds)

        await ask()
        idle = await ask()
        started, before = time.perf_counter(), embedder.counters(Lane.BACKGROUND).tokens
        busy = await _while_ingesting(embedder, chunks, ask)
        ingested = (embedder.counters(Lane.BACKGROUND).tokens - before) / (time.perf_counter() - started)
    figures = {
        "query_ms_idle": _quantiles(idle),
        "query_ms_while_ingesting": _quantiles(busy),
        "p99_ratio": round(_quantile(busy, 0.99) / _quantile(idle, 0.99), 2),
        "ingested_tokens_per_second": round(ingested),
    }
    print(
        f"  a query alone {figures['query_ms_idle']} ms, while ingesting {figures['query_ms_while_ingesting']} ms; "
        f"ingesting {figures['ingested_tokens_per_second']} word pieces/s"
    )
    return figures


async def _while_ingesting(
    embedder: OnnxEmbedder, chunks: Sequence[str], measure: Callable[[], Awaitable[list[float]]]
) -> list[float]:
    ended = asyncio.Event()

    async def ingest(part: Sequence[str]) -> None:
        while not ended.is_set():
            await embedder.embed(part, lane=Lane.BACKGROUND)

    ingesting = [asyncio.create_task(ingest(chunks[first::4])) for first in range(4)]
    try:
        return await measure()
    finally:
        ended.set()
        await asyncio.gather(*ingesting)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _quantiles(ordered: Sequence[float]) -> dict[str, float]:
    return {f"p{share:.0%}".rstrip("%"): round(1000 * _quantile(ordered, share), 2) for share in (0.5, 0.99)}


def _memory(root: Path, precision: Precision, options: Options) -> dict[str, float]:
    requests, limit = (3_000, 20) if options.quick else (100_000, 120)
    result = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.resident_memory"),
            *(str(root), str(precision), str(requests), str(limit)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    figures: dict[str, float] = json.loads(result.stdout)
    print(
        f"  resident {figures['loaded_mb']} MB loaded, {figures['at_the_end_mb']} MB after "
        f"{figures['requests']} requests (x {figures['growth']} since a tenth of them)"
    )
    return figures


async def _quality(root: Path, precision: Precision, data: Path, *, documents: bool) -> dict[str, float]:
    async with OnnxEmbedder(open_installed(root, precision), patience=PATIENCE) as embedder:
        figures = await measure_quality(embedder, data, documents=documents)
    return {name: round(value, 2) for name, value in figures.items()}


def _print_quality(quality: dict[Precision, dict[str, float]]) -> None:
    print(
        f"\n{'retrieval, points':<24}"
        + "".join(f"{precision:>8}" for precision in quality)
        + f"{'change':>8}"
    )
    for name in quality[Precision.FP32]:
        fp32, int8 = quality[Precision.FP32][name], quality[Precision.INT8][name]
        print(f"{name:<24}{fp32:>8.2f}{int8:>8.2f}{int8 - fp32:>+8.2f}")
