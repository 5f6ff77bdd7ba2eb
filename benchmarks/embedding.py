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
from typing import TYPE_CHECKING, Any

from benchmarks.bare_graph import BareGraph, layouts
from benchmarks.chat_texts import chat_texts, made_up_texts
from benchmarks.retrieval_quality import measure_quality
from memsidecar.config import Config
from memsidecar.domain.embedding import Lane
from memsidecar.embedding.cpu_limit import usable_processors
from memsidecar.embedding.engine import OnnxEmbedder
from memsidecar.embedding.install import install_model
from memsidecar.embedding.model_files import Precision, open_installed
from memsidecar.embedding.tokenization import WordPieceTokenizer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from benchmarks.options import Options

CALLERS = 32


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
    rounds, size = (3, 150) if options.quick else (7, 300)
    texts = chat_texts(options.data, rounds * size)
    graphs = [BareGraph(model, layout) for layout in layouts(usable_processors())]
    seconds: dict[str, list[float]] = {}

    async def time_engine(name: str, slice_: Sequence[str], embedder: OnnxEmbedder) -> None:
        started = time.perf_counter()
        await _closed_loop(slice_, embedder)
        seconds.setdefault(name, []).append(time.perf_counter() - started)

    async with OnnxEmbedder(model, cached_texts=0) as embedder:
        for number in range(-1, rounds):
            # Round -1 warms everything up on the first slice.
            slice_ = texts[max(number, 0) * size :][:size]
            ids = [tokenizer.encode(text).ids for text in slice_]
            for graph in graphs:
                seconds.setdefault(graph.layout.name, []).append(
                    await asyncio.to_thread(graph.seconds_for, ids)
                )
            await time_engine("engine, lengths as they come", slice_, embedder)
            await time_engine("engine, sorted by length", sorted(slice_, key=len), embedder)
            if number == -1:
                seconds.clear()
        counters = embedder.counters(Lane.INTERACTIVE)
    rates = {name: size / statistics.median(times) for name, times in seconds.items()}
    for name, rate in rates.items():
        print(f"  {rate:7.1f} texts/s  {name}")
    floor = max((graph.layout.name for graph in graphs), key=rates.__getitem__)
    mixed, ordered = seconds["engine, lengths as they come"], seconds["engine, sorted by length"]
    figures = {
        "texts_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "floor": floor,
        "engine_to_floor": _ratio(seconds[floor], mixed),
        "mixed_to_sorted": _ratio(ordered, mixed),
        "texts_per_group": round(counters.texts / counters.groups, 2),
        "tokenising_share": round(
            counters.tokenise_seconds / (counters.tokenise_seconds + counters.run_seconds), 4
        ),
    }
    print(
        f"  engine / floor {figures['engine_to_floor']:.3f}, mixed / sorted {figures['mixed_to_sorted']:.3f}"
    )
    return figures


def _ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """Median over rounds of how a rate compares to another, from the seconds both took for the same texts."""
    return round(statistics.median(a / b for a, b in zip(slower, faster, strict=True)), 3)


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
    async with OnnxEmbedder(open_installed(root, precision), cached_texts=0) as embedder:

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
    async with OnnxEmbedder(open_installed(root, precision)) as embedder:
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
