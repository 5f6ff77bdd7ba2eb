"""Finding neighbours: recall of the right ten, and time, in scopes of every size of a skewed corpus.

``python -m benchmarks recall [--rows 200000] [--million] [--data DIR] [--hnsw] [--plot FILE]``

Every strategy is asked the same questions in each scope, in turns, as the app role under row-level security:

Beside p50 stands the processor time of the server process in ms, which says more on a machine that does other work.

- ``engine``: what RecallSimilar does in vector mode, transaction included
- ``exact``: everything in the scope is measured
- ``lists``: the tenant's own index, where there is one
- ``scan``: the plainest statement, ORDER BY on full vectors
- ``hnsw``: with ``--hnsw``, one plain HNSW index over all tenants (m 16, ef_construction 64) on a copy of the table

recall@10 counts a hit when it is no farther than the tenth of an exact search in numpy. "growth" holds users of 1 to
3,000 turns fixed while the table grows; "append" is the insert statement for the largest tenant. With ``--data`` base
sentences and questions are those of ``locomo/``, otherwise they are written by a template.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import numpy as np

from benchmarks import recall_corpus
from benchmarks.locomo import answerable, read_lines
from benchmarks.recall_corpus import Corpus, Floats, agent_uuid, generate, said_at, tenant_uuid, turn_uuid
from benchmarks.recall_plot import plot
from memsidecar.app import open_embedder
from memsidecar.config import Config
from memsidecar.domain.embedding import ModelIdentity
from memsidecar.domain.turns import TurnScope
from memsidecar.embedding.install import install_model
from memsidecar.postgres.database import Database
from memsidecar.postgres.embedded import DatabaseUrls, temporary_postgres
from memsidecar.postgres.embedded.urls import APP, ERASER, OWNER, SUPERUSER
from memsidecar.postgres.index_maintenance import IndexMaintenance
from memsidecar.postgres.migrations import migrate
from memsidecar.postgres.models import register_model
from memsidecar.postgres.queries import load_queries
from memsidecar.postgres.recall_store import PostgresRecallStore, scoped_query
from memsidecar.postgres.turn_rows import scope_parameters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from uuid import UUID

    from benchmarks.options import Options

    Strategy = Callable[[UUID, TurnScope, bytes], Awaitable[list[UUID]]]

HITS = 10
BASE_SENTENCES = 3_000
BATCH = 1_000
MOST_SCANNED = 10_000
"""Rows up to which the plainest statement is asked: beyond, it takes seconds and never wins."""
WARMING = 5
"""Questions whose time is not counted: they fill caches and make plans."""
GROWTH = (10_000, 200_000, 1_000_000)


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    rows: int
    questions: int
    hnsw: bool
    data: Path | None


@dataclass(frozen=True)
class Scope:
    """A scope to ask about."""

    name: str
    tenant_id: UUID
    scope: TurnScope
    rows: np.ndarray[Any, np.dtype[np.int64]]
    """Places of its turns in the corpus."""


def _texts(data: Path | None) -> tuple[list[str], list[str]]:
    """Give base sentences and questions."""
    if data is None:
        sentences = recall_corpus.templated_sentences(BASE_SENTENCES + 400, seed=11)
        return sentences[400:], [f"What do we know: {sentence}" for sentence in sentences[:400]]
    turns = [turn["text"] for turn in read_lines(data / "locomo" / "turns.jsonl") if turn["text"]]
    questions = answerable(read_lines(data / "locomo" / "questions.jsonl"))
    return list(dict.fromkeys(turns)), [question["question"] for question in questions]


async def _embed(texts: Sequence[str]) -> Floats:
    config = Config.from_environment()
    install_model(config.model_directory)
    embedder = open_embedder(config)
    try:
        vectors = []
        for first in range(0, len(texts), 64):
            vectors += [
                each.vector for each in await embedder.embed(texts[first : first + 64], deadline=None)
            ]
    finally:
        await embedder.close()
    return np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(texts), -1)


@asynccontextmanager
async def _database(name: str, urls: DatabaseUrls) -> AsyncIterator[Database]:
    """Make a migrated database and give the app role's pool."""
    connection = await asyncpg.connect(urls.for_role(SUPERUSER, "postgres"))
    await connection.execute(f"CREATE DATABASE {name} OWNER {OWNER}")
    await connection.close()
    connection = await asyncpg.connect(urls.for_role(SUPERUSER, name))
    await connection.execute("CREATE EXTENSION vector")
    await connection.close()
    await migrate(urls.for_role(OWNER, name), app_login=APP, eraser_login=ERASER)
    database = await Database.connect(urls.for_role(APP, name), max_connections=1)
    try:
        yield database
    finally:
        await database.close()


_INSERT = """
INSERT INTO conversation_embeddings (
    tenant_id, model_id, id, turn_id, agent_id, user_id, conversation_id, role, content, token_count, occurred_at,
    created_at, embedding
)
SELECT $1, $2, id, id, agent_id, user_id, conversation_id, 'user', content, 12, occurred_at, occurred_at, embedding
FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::vector[])
    AS given (id, agent_id, user_id, conversation_id, content, occurred_at, embedding)
"""


def _columns(
    corpus: Corpus, rows: Sequence[int], sentences: Sequence[str], offset: int = 0
) -> list[list[Any]]:
    return [
        [turn_uuid(corpus.seconds[row], int(row) + offset) for row in rows],
        [agent_uuid(int(corpus.tenant[row]), int(corpus.agent[row])) for row in rows],
        [f"user-{corpus.user[row]}" for row in rows],
        [f"conversation-{corpus.conversation[row]}" for row in rows],
        [sentences[corpus.sentence[row]] for row in rows],
        [said_at(corpus.seconds[row]) for row in rows],
        [corpus.vectors[row].tobytes() for row in rows],
    ]


async def _load(
    database: Database, superuser_url: str, corpus: Corpus, sentences: Sequence[str], model_id: int
) -> None:
    connection = await asyncpg.connect(superuser_url)
    await connection.executemany(
        "INSERT INTO tenants (id, name) VALUES ($1, $2)",
        [(tenant_uuid(tenant), f"tenant-{tenant}") for tenant in np.unique(corpus.tenant).tolist()],
    )
    for tenant in np.unique(corpus.tenant).tolist():
        places = np.flatnonzero(corpus.tenant == tenant)
        for first in range(0, len(places), BATCH):
            async with database.tenant(tenant_uuid(tenant)) as rows:
                columns = _columns(corpus, places[first : first + BATCH].tolist(), sentences)
                await rows.execute(_INSERT, tenant_uuid(tenant), model_id, *columns)
    await connection.execute("VACUUM ANALYZE conversation_embeddings")
    await connection.close()


def _user_scopes(corpus: Corpus) -> list[Scope]:
    """Give the planted users."""
    return [
        Scope(
            f"user of {size:,}",
            tenant_uuid(0),
            TurnScope(agent_ids=(agent_uuid(0, 0),), user_id=f"user-{user}"),
            np.flatnonzero((corpus.tenant == 0) & (corpus.user == user)),
        )
        for user, size in enumerate(recall_corpus.PLANTED_USERS)
    ]


def _scopes(corpus: Corpus) -> list[Scope]:
    """Give a scope of every kind and size."""
    scopes = _user_scopes(corpus)
    in_first = corpus.tenant == 0
    numbers, sizes = np.unique(corpus.conversation[in_first], return_counts=True)
    longest = int(numbers[np.argmax(sizes)])
    talks_to = int(corpus.agent[corpus.conversation == longest][0])
    scopes.append(
        Scope(
            f"conversation of {int(sizes.max()):,}",
            tenant_uuid(0),
            TurnScope(agent_ids=(agent_uuid(0, talks_to),), conversation_ids=(f"conversation-{longest}",)),
            np.flatnonzero(in_first & (corpus.conversation == longest)),
        )
    )
    for tenant in (30, 8, 3, 1, 0):
        rows = np.flatnonzero(corpus.tenant == tenant)
        scopes.append(Scope(f"tenant of {len(rows):,}", tenant_uuid(tenant), TurnScope(), rows))
    for agent in (2, 0):
        rows = np.flatnonzero(in_first & (corpus.agent == agent))
        scope = TurnScope(agent_ids=(agent_uuid(0, agent),))
        scopes.append(Scope(f"agent of {len(rows):,}", tenant_uuid(0), scope, rows))
    return [each for each in scopes if len(each.rows)]


def _recall(
    corpus: Corpus, scope: Scope, question: Floats, found: Sequence[UUID], places: dict[UUID, int]
) -> float:
    similarity = corpus.vectors[scope.rows] @ question
    wanted = min(HITS, len(similarity))
    tenth = np.partition(similarity, len(similarity) - wanted)[len(similarity) - wanted]
    hits = sum(float(corpus.vectors[places[row_id]] @ question) >= tenth - 1e-5 for row_id in found)
    return float(min(hits, wanted) / wanted)


_PLAIN = """
SELECT turn.id FROM {table} AS turn
WHERE turn.tenant_id = $1
    AND ($2::uuid IS NULL OR turn.agent_id = $2)
    AND ($3::text IS NULL OR turn.user_id = $3)
    AND ($4::text IS NULL OR turn.conversation_id = $4)
ORDER BY turn.{column} <=> {vector} LIMIT $6
"""
_PLAN_EACH = "SET LOCAL plan_cache_mode = force_custom_plan"
_BUILD_HNSW = """
CREATE TABLE global_hnsw AS
    SELECT tenant_id, id, agent_id, user_id, conversation_id, embedding_half FROM conversation_embeddings;
SET maintenance_work_mem = '2GB';
CREATE INDEX ON global_hnsw USING hnsw (embedding_half halfvec_cosine_ops) WITH (m = 16, ef_construction = 64);
CREATE INDEX ON global_hnsw (tenant_id, agent_id, user_id);
ALTER TABLE global_hnsw ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON global_hnsw
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
GRANT SELECT ON global_hnsw TO memsidecar_app;
ANALYZE global_hnsw
"""


def _strategies(database: Database, model_id: int, *, hnsw: bool) -> dict[str, Strategy]:
    store = PostgresRecallStore(database, model_id=model_id)

    async def engine(tenant_id: UUID, scope: TurnScope, vector: bytes) -> list[UUID]:
        async with store.reading(tenant_id, deadline=None) as reader:
            return [each.row_id for each in await reader.nearest(scope, vector, limit=HITS)]

    async def own(name: str, settings: str, tenant_id: UUID, scope: TurnScope, vector: bytes) -> list[UUID]:
        parameters = (tenant_id, *scope_parameters(scope), model_id, vector, HITS)
        async with database.tenant(tenant_id) as connection:
            if settings:
                await connection.execute(settings)
            return [row["id"] for row in await connection.fetch(scoped_query(name, scope), *parameters)]

    async def plain(statement: str, tenant_id: UUID, scope: TurnScope, vector: bytes) -> list[UUID]:
        agent_id = scope.agent_ids[0] if scope.agent_ids else None
        conversation_id = scope.conversation_ids[0] if scope.conversation_ids else None
        parameters = (tenant_id, agent_id, scope.user_id, conversation_id, vector, HITS)
        async with database.tenant(tenant_id) as connection:
            await connection.execute(_PLAN_EACH)
            return [row["id"] for row in await connection.fetch(statement, *parameters)]

    scan = _PLAIN.format(table="conversation_embeddings", column="embedding", vector="$5::vector")
    strategies: dict[str, Strategy] = {
        "engine": engine,
        "exact": partial(own, "nearest_turns", ""),
        "lists": partial(own, "nearest_turns_by_lists", load_queries("recall")["prefer_lists"]),
        "scan": partial(plain, scan),
    }
    if hnsw:
        statement = _PLAIN.format(
            table="global_hnsw", column="embedding_half", vector="$5::vector::halfvec(384)"
        )
        strategies["hnsw"] = partial(plain, statement)
    return strategies


def _processor_seconds(pid: int) -> float:
    """Give the processor time that a process has had, which other load on the machine changes little; Linux only."""
    statistics_file = Path(f"/proc/{pid}/schedstat")
    return int(statistics_file.read_text().split()[0]) / 1e9 if statistics_file.exists() else 0.0


async def _ask(
    strategies: dict[str, Strategy],
    corpus: Corpus,
    scope: Scope,
    questions: Floats,
    places: dict[UUID, int],
    pid: int,
) -> dict[str, Any]:
    """Ask every strategy each question, in turns; ``pid`` is the server process that answers."""
    figures: dict[str, Any] = {"scope": scope.name, "rows": len(scope.rows)}
    seconds: dict[str, list[float]] = defaultdict(list)
    processor: dict[str, list[float]] = defaultdict(list)
    shares: dict[str, list[float]] = defaultdict(list)
    for number, question in enumerate(questions):
        for name, find in strategies.items():
            started, processor_started = time.perf_counter(), _processor_seconds(pid)
            found = await find(scope.tenant_id, scope.scope, question.tobytes())
            if number >= WARMING:
                seconds[name].append(time.perf_counter() - started)
                processor[name].append(_processor_seconds(pid) - processor_started)
            shares[name].append(_recall(corpus, scope, question, found, places))
    for name in strategies:
        figures[name] = {
            "recall@10": round(statistics.mean(shares[name]), 4),
            "p50_ms": round(statistics.median(seconds[name]) * 1000, 3),
            "p50_processor_ms": round(statistics.median(processor[name]) * 1000, 3),
        }
    return figures


async def _append_milliseconds(
    database: Database, corpus: Corpus, sentences: Sequence[str], model_id: int, pid: int
) -> dict[str, float]:
    """Insert single turns into the largest and a small tenant; gives the median processor time of each."""
    figures = {}
    for name, tenant in (("largest tenant", 0), ("small tenant", 250)):
        places = np.flatnonzero(corpus.tenant == tenant)
        seconds = []
        for number in range(400):
            place = int(places[number % len(places)])
            columns = _columns(corpus, [place], sentences, len(corpus) + number + 1)
            started = _processor_seconds(pid)
            async with database.tenant(tenant_uuid(tenant)) as connection:
                await connection.execute(_INSERT, tenant_uuid(tenant), model_id, *columns)
            seconds.append(_processor_seconds(pid) - started)
        figures[name] = round(statistics.median(seconds) * 1000, 3)
    return figures


async def _measure_size(
    urls: DatabaseUrls, size: int, texts: tuple[Sequence[str], Floats, Floats], settings: Settings
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Load a corpus of one size; give its line of the growth table, and the table of scopes if it is the largest."""
    sentences, base, questions = texts
    corpus = generate(size, base)
    places = {turn_uuid(corpus.seconds[row], row): row for row in range(len(corpus))}
    name = f"rows_{size}"
    table = []
    async with _database(name, urls) as database:
        model_id = await register_model(database, ModelIdentity("benchmark", "fp32", "0" * 64, 384))
        started = time.perf_counter()
        await _load(database, urls.for_role(SUPERUSER, name), corpus, sentences, model_id)
        loaded = time.perf_counter()
        changes = await IndexMaintenance(urls.for_role(OWNER, name)).run()
        lists_for = {change.tenant_id for change in changes}
        print(
            f"{size:,} turns loaded in {loaded - started:.0f} s;"
            f" {len(changes)} tenants earned an index, built in {time.perf_counter() - loaded:.0f} s",
            flush=True,
        )
        async with database.control() as connection:
            pid = connection.get_server_pid()
        engine = {"engine": _strategies(database, model_id, hnsw=False)["engine"]}
        users = [
            await _ask(engine, corpus, scope, questions[:60], places, pid) for scope in _user_scopes(corpus)
        ]
        if size == settings.rows:
            if settings.hnsw:
                started = time.perf_counter()
                superuser = await asyncpg.connect(urls.for_role(SUPERUSER, name))
                await superuser.execute(_BUILD_HNSW)
                await superuser.close()
                print(f"plain HNSW built in {time.perf_counter() - started:.0f} s", flush=True)
            for scope in _scopes(corpus):
                strategies = _strategies(database, model_id, hnsw=settings.hnsw)
                if scope.tenant_id not in lists_for or scope.scope.user_id or scope.scope.conversation_ids:
                    del strategies["lists"]
                if len(scope.rows) > MOST_SCANNED:
                    del strategies["scan"]
                table.append(await _ask(strategies, corpus, scope, questions, places, pid))
                _print_scope(table[-1])
        line = {
            "rows": size,
            "users": {each["scope"]: each["engine"] for each in users},
            "append_ms": await _append_milliseconds(database, corpus, sentences, model_id, pid),
        }
    return line, table


def _print_scope(figures: dict[str, Any]) -> None:
    cells = "  ".join(
        f"{name} {each['recall@10']:.3f} {each['p50_ms']:7.2f} {each['p50_processor_ms']:7.2f}"
        for name, each in figures.items()
        if isinstance(each, dict)
    )
    print(f"{figures['scope']:<24} {cells}", flush=True)


async def _measure(settings: Settings) -> dict[str, Any]:
    sentences, asked = _texts(settings.data)
    embedded = await _embed([*sentences, *asked])
    base, questions = embedded[: len(sentences)], embedded[len(sentences) :]
    questions = questions[:: max(1, len(questions) // settings.questions)][: settings.questions]
    growth = []
    table: list[dict[str, Any]] = []
    async with temporary_postgres({"shared_buffers": "2GB", "max_wal_size": "16GB"}) as postgres:
        for size in [size for size in GROWTH if size < settings.rows] + [settings.rows]:
            line, table = await _measure_size(postgres.urls, size, (sentences, base, questions), settings)
            growth.append(line)
            users = {name: figures["p50_processor_ms"] for name, figures in line["users"].items()}
            print(f"{size:,} turns: {users}, append {line['append_ms']}", flush=True)
    return {"rows": settings.rows, "questions": len(questions), "scopes": table, "growth": growth}


def run(options: Options) -> dict[str, Any]:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks recall")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--million", action="store_true", help="the same as --rows 1000000")
    parser.add_argument("--hnsw", action="store_true", help="also build and ask one plain HNSW index")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--plot", type=Path, help="also draw the scopes into this SVG file")
    arguments = parser.parse_args(options.extra)
    rows = 1_000_000 if arguments.million else arguments.rows
    if options.quick:
        rows = min(rows, 20_000)
    figures = asyncio.run(_measure(Settings(rows, arguments.questions, arguments.hnsw, options.data)))
    if arguments.plot:
        arguments.plot.write_text(plot(figures["scopes"]))
    return figures
