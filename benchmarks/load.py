"""Load with ghz, from outside the process: open loop at rising rates, until the server is saturated.

``benchmarks/ghz/`` holds a configuration and templated data for each RPC. Calls are sent when they are due, whether or
not the ones before are answered (``--async --rps``), so a slow server shows as latency and not as a lower rate. A rate
is the last one when less than 95 % of what was offered was answered in time, more than 1 % failed, or p99 was over a
second.

ghz is installed at its pinned version into ``bin/`` when it is not there (needs Go). Server, Postgres and ghz share the
machine. ``-- --reports DIR`` keeps ghz's reports and the pictures.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from benchmarks.load_picture import draw
from benchmarks.server_process import server_process
from memsidecar.v1 import conversation_memory_pb2 as conversation_pb
from memsidecar.v1 import documents_pb2 as documents_pb

if TYPE_CHECKING:
    from benchmarks.options import Options

GHZ_VERSION = "v0.121.0"
ROOT = Path(__file__).resolve().parent.parent
CONFIGURATIONS = ROOT / "benchmarks/ghz"
RATES = {
    "append_turn": (25, 50, 100, 150, 200, 250, 300, 400),
    "recall_similar": (25, 50, 100, 150, 200, 250, 300, 400),
    "hybrid_search": (25, 50, 100, 150, 200, 250, 300),
    "list_turns": (100, 200, 400, 600, 800),
    "upsert_user_memory": (25, 50, 100, 150, 200, 250, 300, 400),
}
USERS = 50


def ghz() -> Path:
    """Give the program, installed first where it is missing."""
    program = ROOT / "bin/ghz"
    if not program.exists():
        print(f"installing ghz {GHZ_VERSION} ...", flush=True)
        subprocess.run(
            ["go", "install", f"github.com/bojand/ghz/cmd/ghz@{GHZ_VERSION}"],
            env={**os.environ, "GOBIN": str(program.parent)},
            check=True,
        )
    return program


async def _fill(address: str, turns_per_user: int) -> None:
    """Give every user turns to recall, and everybody documents to search."""
    given = json.loads((CONFIGURATIONS / "append_turn.data.json").read_text())
    async with grpc.aio.insecure_channel(address) as channel:
        append: Any = channel.unary_unary(
            "/memsidecar.v1.ConversationMemoryService/AppendTurns",
            request_serializer=conversation_pb.AppendTurnsRequest.SerializeToString,
        )
        ingest: Any = channel.unary_unary(
            "/memsidecar.v1.DocumentService/IngestDocument",
            request_serializer=documents_pb.IngestDocumentRequest.SerializeToString,
        )
        for user in range(USERS):
            request = conversation_pb.AppendTurnsRequest()
            for number in range(turns_per_user):
                turn = given[number % len(given)]["turn"]
                added = request.turns.add(agent_id=turn["agent_id"], user_id=f"user-{user}", role=1)
                added.conversation_id = f"channel-{number % 8}"
                added.content = turn["content"].replace("{{.RequestNumber}}", f"{user}-{number}")
            await append(request, timeout=120)
            passages = "\n\n".join(turn.content for turn in request.turns)
            document = documents_pb.NewDocument(
                document_key=f"notes-{user}.md", is_global=True, content=passages.encode()
            )
            await ingest(documents_pb.IngestDocumentRequest(document=document))


def _call(program: Path, name: str, rate: int, seconds: int, address: str, report: Path) -> dict[str, Any]:
    subprocess.run(
        [
            program, "--config", CONFIGURATIONS / f"{name}.json", "--async", "--rps", str(rate),
            "--concurrency", "32", "--total", str(rate * seconds), "--duration-stop", "wait",
            "--format", "json", "--output", report, address,
        ],
        cwd=ROOT,
        check=True,
        timeout=seconds + 60,
    )  # fmt: skip
    return summary(json.loads(report.read_text()), rate)


def summary(report: dict[str, Any], rate: int) -> dict[str, Any]:
    """Reduce a report of ghz to a row: rates per second, times in milliseconds."""
    latencies = {each["percentage"]: each["latency"] / 1e6 for each in report["latencyDistribution"] or ()}
    good = report["statusCodeDistribution"].get("OK", 0)
    return {
        "offered": rate,
        "answered": round(report["rps"], 1),
        "p50_ms": round(latencies.get(50, 0.0), 1),
        "p95_ms": round(latencies.get(95, 0.0), 1),
        "p99_ms": round(latencies.get(99, 0.0), 1),
        "failed": report["count"] - good,
        "failed_share": round(1 - good / max(report["count"], 1), 4),
    }


def saturated(row: dict[str, Any]) -> bool:
    """Tell whether a rate is more than the server can carry."""
    return bool(
        row["answered"] < 0.95 * row["offered"] or row["failed_share"] > 0.01 or row["p99_ms"] > 1_000
    )


async def _measure(options: Options, reports: Path) -> dict[str, Any]:
    program = ghz()
    seconds = 3 if options.quick else 8
    figures: dict[str, Any] = {}
    async with server_process() as server:
        await _fill(server.address, 20 if options.quick else 200)
        for name, rates in RATES.items():
            rows = []
            for rate in rates[:2] if options.quick else rates:
                report = reports / f"{name}-{rate}.json"
                rows.append(
                    await asyncio.to_thread(_call, program, name, rate, seconds, server.address, report)
                )
                _keep_small(report)
                if saturated(rows[-1]):
                    break
            figures[name] = rows
            _print(name, rows)
    return figures


def _keep_small(path: Path) -> None:
    """Leave out the line that ghz writes for every call."""
    report = json.loads(path.read_text())
    report.pop("details", None)
    report["options"].pop("data", None)
    path.write_text(json.dumps(report, indent=1) + "\n")


def _print(name: str, rows: list[dict[str, Any]]) -> None:
    print(
        f"\n{name:<20}{'offered/s':>10}{'answered/s':>12}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'failed':>8}"
    )
    for row in rows:
        print(
            f"{'':<20}{row['offered']:>10}{row['answered']:>12}{row['p50_ms']:>9}{row['p95_ms']:>9}"
            f"{row['p99_ms']:>9}{row['failed']:>8}"
        )


def run(options: Options) -> dict[str, Any]:
    """Measure and print the tables."""
    extra = dict(zip(options.extra[::2], options.extra[1::2], strict=False))
    with tempfile.TemporaryDirectory(prefix="memsidecar-load-") as folder:
        reports = Path(extra.get("--reports", folder))
        reports.mkdir(parents=True, exist_ok=True)
        figures = asyncio.run(_measure(options, reports))
        for name, rows in figures.items():
            (reports / f"{name}.svg").write_text(draw(name, rows))
        return figures
