"""AppendTurn and RecallSimilar end to end against their raw floors, everything on the same processors.

Three comparisons, each measured in turns within one run:

* 32 callers appending, against the best bare loop over the graph on the same texts: server, Postgres and the load
  generator share the processors with the model.
* One caller appending, against embedding in this process and one bare INSERT, committed.
* One caller recalling among 1,000 turns, against embedding and the bare nearest-neighbour query.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import grpc

from benchmarks.bare_graph import BareGraph, layouts
from benchmarks.chat_texts import chat_texts
from benchmarks.server_process import server_process
from memsidecar.config import Config
from memsidecar.embedding.cpu_limit import usable_processors
from memsidecar.embedding.engine import OnnxEmbedder
from memsidecar.embedding.install import install_model
from memsidecar.embedding.model_files import Precision, open_installed
from memsidecar.embedding.tokenization import WordPieceTokenizer
from memsidecar.postgres.vectors import register_vector_codec
from memsidecar.v1 import common_pb2
from memsidecar.v1 import conversation_memory_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.options import Options
    from benchmarks.server_process import ServerProcess
    from memsidecar.embedding.model_files import InstalledModel

CALLERS = 32
SCOPE_TURNS = 1_000
AGENT = str(uuid4())
_SERVICE = "/memsidecar.v1.ConversationMemoryService/"


def run(options: Options) -> dict[str, Any]:
    """Measure and print the table."""
    config = Config.from_environment()
    install_model(config.model_directory)
    model = open_installed(config.model_directory, Precision(config.model_precision))
    figures = asyncio.run(_measure(model, options))
    print(f"AppendTurn, {CALLERS} callers  {figures['appends_per_second']:7.1f}/s")
    print(f"bare graph, best layout   {figures['floor_per_second']:7.1f}/s   ({figures['floor']})")
    print(f"ratio                     {figures['append_to_floor']:9.2f}")
    for name in ("append", "recall_vector", "recall_fused"):
        print(
            f"{name:<14} one caller  p50 {figures[f'{name}_ms']:6.2f} ms   floor {figures[f'{name}_floor_ms']:6.2f} ms"
            f"   ratio {figures[f'{name}_to_floor']:.2f}"
        )
    return figures


async def _measure(model: InstalledModel, options: Options) -> dict[str, Any]:
    rounds, size = (3, 150) if options.quick else (9, 300)
    texts = chat_texts(options.data, rounds * size)
    async with (
        server_process(MEMSIDECAR_MODEL_PRECISION=model.identity.precision) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        calls = _Calls(channel)
        return {
            "precision": model.identity.precision,
            **await _throughput(model, calls, texts, rounds, size),
            **await _latency(model, server, calls, texts, samples=60 if options.quick else 300),
        }


class _Calls:
    """Calls with ready-made bytes, so that the load generator costs little."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._append: Any = channel.unary_unary(f"{_SERVICE}AppendTurn")
        self._recall: Any = channel.unary_unary(f"{_SERVICE}RecallSimilar")

    async def append(self, content: str, user_id: str = "load") -> None:
        turn = pb.NewTurn(
            agent_id=AGENT,
            user_id=user_id,
            conversation_id="benchmark",
            role=common_pb2.ROLE_USER,
            content=content,
            request_id=str(uuid4()),
        )
        await self._append(pb.AppendTurnRequest(turn=turn).SerializeToString())

    async def recall(self, query: str, mode: pb.RecallMode.ValueType) -> None:
        scope = pb.TurnScope(agent_id=AGENT, user_id="one")
        await self._recall(pb.RecallSimilarRequest(query=query, scope=scope, mode=mode).SerializeToString())


async def _throughput(
    model: InstalledModel, calls: _Calls, texts: Sequence[str], rounds: int, size: int
) -> dict[str, Any]:
    tokenizer = WordPieceTokenizer(model.tokenizer)
    graphs = [BareGraph(model, layout) for layout in layouts(usable_processors())]
    seconds: dict[str, list[float]] = {graph.layout.name: [] for graph in graphs}
    appends: list[float] = []
    for number in range(-1, rounds):
        slice_ = texts[max(number, 0) * size :][:size]
        ids = [tokenizer.encode(text).ids for text in slice_]
        timed = {graph.layout.name: await asyncio.to_thread(graph.seconds_for, ids) for graph in graphs}
        # Another text than before, or the server would remember its vector.
        appended = await _closed_loop(calls, [f"{text} {number}" for text in slice_])
        if number >= 0:  # round -1 warms everything up
            appends.append(appended)
            for name, value in timed.items():
                seconds[name].append(value)
    floor = min(seconds, key=lambda name: statistics.median(seconds[name]))
    return {
        "floor": floor,
        "floor_per_second": round(size / statistics.median(seconds[floor]), 1),
        "appends_per_second": round(size / statistics.median(appends), 1),
        "append_to_floor": round(
            statistics.median(bare / ours for bare, ours in zip(seconds[floor], appends, strict=True)), 3
        ),
    }


async def _closed_loop(calls: _Calls, texts: Sequence[str]) -> float:
    remaining = iter(texts)

    async def caller() -> None:
        for text in remaining:
            await calls.append(text)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _caller in range(CALLERS)))
    return time.perf_counter() - started


async def _latency(
    model: InstalledModel, server: ServerProcess, calls: _Calls, texts: Sequence[str], samples: int
) -> dict[str, Any]:
    for number in range(SCOPE_TURNS):
        await calls.append(f"{texts[number % len(texts)]} {number} in scope", "one")
    connection = await asyncpg.connect(server.databases.owner_url)
    await register_vector_codec(connection)
    await connection.execute(
        "CREATE TABLE bare (id uuid PRIMARY KEY, content text NOT NULL, embedding vector(384) NOT NULL)"
    )
    timings: dict[str, list[float]] = {}

    async def timed(name: str, work: Any) -> None:
        started = time.perf_counter()
        await work
        timings.setdefault(name, []).append(time.perf_counter() - started)

    async with OnnxEmbedder(model, cached_texts=0) as embedder:

        async def bare_insert(text: str) -> None:
            [embedding] = await embedder.embed([text])
            await connection.execute("INSERT INTO bare VALUES ($1, $2, $3)", uuid4(), text, embedding.vector)

        async def bare_query(text: str) -> None:
            [embedding] = await embedder.embed([text])
            await connection.fetch(
                "SELECT id, content, embedding <=> $1 AS distance FROM bare ORDER BY 3 LIMIT 10",
                embedding.vector,
            )

        for number in range(SCOPE_TURNS):
            await bare_insert(f"{texts[number % len(texts)]} {number} in scope")
        await connection.execute("VACUUM ANALYZE bare")
        await _settled(server)
        for number in range(samples):
            text = texts[number % len(texts)]
            await timed("append", calls.append(f"{text} {number} a", "other"))
            await timed("append_floor", bare_insert(f"{text} {number} b"))
            await connection.execute("DELETE FROM bare WHERE content = $1", f"{text} {number} b")
            await timed("recall_vector", calls.recall(f"{text[:60]} {number} c?", pb.RECALL_MODE_VECTOR))
            await timed("recall_vector_floor", bare_query(f"{text[:60]} {number} d?"))
            await timed("recall_fused", calls.recall(f"{text[:60]} {number} e?", pb.RECALL_MODE_FUSED))
            await timed("recall_fused_floor", bare_query(f"{text[:60]} {number} f?"))
    await connection.close()
    p50 = {name: statistics.median(values[samples // 10 :]) for name, values in timings.items()}
    figures = {f"{name}_ms": round(value * 1000, 2) for name, value in p50.items()}
    for name in ("append", "recall_vector", "recall_fused"):
        figures[f"{name}_to_floor"] = round(p50[name] / p50[f"{name}_floor"], 3)
    return figures


async def _settled(server: ServerProcess) -> None:
    """Let statistics and the visibility map be as autovacuum leaves them a minute later."""
    connection = await asyncpg.connect(server.databases.owner_url)
    await connection.execute("VACUUM ANALYZE conversation_embeddings")
    await connection.close()
