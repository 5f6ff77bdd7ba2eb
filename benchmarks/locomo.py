"""LoCoMo: how much of the evidence for a question is among the first turns recalled, through the real RPCs.

``--data DIR`` holds ``locomo/turns.jsonl`` and ``locomo/questions.jsonl``. Every turn goes in through AppendTurns as it
was said; every answerable question (categories 1 to 4 with evidence) is asked with default settings within its own
chat. R@k is the share of a question's evidence among the first k hits, averaged over questions.
``--ablations`` asks again without each part of the ranking, and by words alone.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from benchmarks.sidecar import benchmark_sidecar
from memsidecar.v1 import common_pb2
from memsidecar.v1 import conversation_memory_pb2 as pb
from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceStub

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.options import Options

CUTOFFS = (5, 10, 20)
BATCH = 64
SECONDS_BETWEEN_TURNS = 30
"""The data dates sessions, not turns: turns of a session are set this far apart from its start."""
_AGENTS = UUID("6f9f8a52-0f0e-4d86-9b0a-1f4f4f2f6d11")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def turn_message(turn: dict[str, Any]) -> pb.NewTurn:
    """Build the message of one turn: both people are users; who shares a picture says so in words."""
    started = datetime.strptime(turn["session_date"], "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
    content = turn["text"]
    if turn.get("image_caption"):
        content = f"{content} [shares a picture: {turn['image_caption']}]".strip()
    message = pb.NewTurn(
        agent_id=str(uuid5(_AGENTS, turn["conv"])),
        user_id=turn["conv"],
        conversation_id=f"{turn['conv']}/session-{turn['session']}",
        role=common_pb2.ROLE_USER,
        speaker=pb.Speaker(speaker_id=turn["speaker"].lower(), display_name=turn["speaker"]),
        content=content,
        event=pb.Event(source=turn["conv"], event_id=turn["dia_id"]),
    )
    message.occurred_at.FromDatetime(started + timedelta(seconds=SECONDS_BETWEEN_TURNS * turn["position"]))
    return message


def _with_positions(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    counts: dict[tuple[str, int], int] = defaultdict(int)
    placed = []
    for turn in sorted(turns, key=lambda turn: (turn["conv"], turn["session"], turn["pos"])):
        key = (turn["conv"], turn["session"])
        placed.append({**turn, "position": counts[key]})
        counts[key] += 1
    return placed


def answerable(questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out adversarial questions and those without evidence."""
    return [
        question for question in questions if question["category"] in {1, 2, 3, 4} and question["evidence"]
    ]


ABLATIONS = {
    "meaning": pb.RankingOptions(vector_weight=0),
    "words": pb.RankingOptions(lexical_weight=0),
    "words of neighbours": pb.RankingOptions(neighbour_credit=0),
    "session": pb.RankingOptions(session_prior=0),
    "speaker": pb.RankingOptions(speaker_boost=0),
    "dates": pb.RankingOptions(date_boost=0),
    "reply": pb.RankingOptions(reply_credit=0),
    "question": pb.RankingOptions(question_penalty=0),
}
"""Each part of the ranking, and the option that takes it out."""


async def ask(
    stub: Any,
    question: dict[str, Any],
    top_k: int,
    mode: pb.RecallMode.ValueType,
    ranking: pb.RankingOptions | None = None,
) -> tuple[list[str], float]:
    """Recall for one question; gives the event ids found and the seconds it took."""
    request = pb.RecallSimilarRequest(
        query=question["question"],
        scope=pb.TurnScope(user_id=question["conv"]),
        top_k=top_k,
        mode=mode,
        ranking=ranking,
    )
    started = time.perf_counter()
    response = await stub.RecallSimilar(request)
    return [hit.turn.event.event_id for hit in response.hits], time.perf_counter() - started


def share_found(question: dict[str, Any], found: list[str], cutoff: int) -> float:
    """R@k of one question."""
    wanted = set(question["evidence"])
    return len(wanted & set(found[:cutoff])) / len(wanted)


async def _measure(
    turns: list[dict[str, Any]], questions: list[dict[str, Any]], *, ablations: bool
) -> dict[str, Any]:
    async with benchmark_sidecar() as channel:
        stub = ConversationMemoryServiceStub(channel)
        started = time.perf_counter()
        for first in range(0, len(turns), BATCH):
            batch = [turn_message(turn) for turn in turns[first : first + BATCH]]
            await stub.AppendTurns(pb.AppendTurnsRequest(turns=batch))
        append_seconds = time.perf_counter() - started
        figures: dict[str, Any] = {
            "turns": len(turns),
            "questions": len(questions),
            "append_seconds": round(append_seconds, 2),
        }
        for mode in (pb.RECALL_MODE_FUSED, pb.RECALL_MODE_VECTOR):
            name = pb.RecallMode.Name(mode).removeprefix("RECALL_MODE_").lower()
            figures[name] = await _score(stub, questions, mode)
        figures["fused_to_vector_p50"] = round(figures["fused"]["p50_ms"] / figures["vector"]["p50_ms"], 2)
        if ablations:
            figures["lexical"] = await _score(stub, questions, pb.RECALL_MODE_LEXICAL)
            figures["without"] = {
                name: await _score(stub, questions, pb.RECALL_MODE_FUSED, ranking)
                for name, ranking in ABLATIONS.items()
            }
        return figures


async def _score(
    stub: Any,
    questions: list[dict[str, Any]],
    mode: pb.RecallMode.ValueType,
    ranking: pb.RankingOptions | None = None,
) -> dict[str, Any]:
    shares: dict[int, list[float]] = {cutoff: [] for cutoff in CUTOFFS}
    by_category: dict[str, list[float]] = defaultdict(list)
    seconds = []
    for question in questions:
        found, elapsed = await ask(stub, question, max(CUTOFFS), mode, ranking)
        seconds.append(elapsed)
        for cutoff in CUTOFFS:
            shares[cutoff].append(share_found(question, found, cutoff))
        by_category[question["category_name"]].append(share_found(question, found, 10))
    return {
        **{f"R@{cutoff}": round(statistics.mean(values), 4) for cutoff, values in shares.items()},
        "p50_ms": round(statistics.median(seconds) * 1000, 2),
        "R@10 by category": {
            name: round(statistics.mean(values), 3) for name, values in sorted(by_category.items())
        },
    }


def run(options: Options) -> dict[str, Any]:
    """Measure and print the table."""
    if options.data is None:
        raise SystemExit("this benchmark needs --data DIR with locomo/turns.jsonl and locomo/questions.jsonl")
    turns = _with_positions(read_lines(options.data / "locomo" / "turns.jsonl"))
    questions = answerable(read_lines(options.data / "locomo" / "questions.jsonl"))
    if options.quick:
        chat = turns[0]["conv"]
        turns = [turn for turn in turns if turn["conv"] == chat]
        questions = [question for question in questions if question["conv"] == chat]
    figures = asyncio.run(_measure(turns, questions, ablations="--ablations" in options.extra))
    print(f"{figures['turns']} turns appended in {figures['append_seconds']} s")
    print(f"{'mode':<28}" + "".join(f"{f'R@{cutoff}':>8}" for cutoff in CUTOFFS) + f"{'p50 ms':>9}")
    for mode in ("fused", "vector", "lexical"):
        if mode in figures:
            _print_row(mode, figures[mode])
    for name, row in figures.get("without", {}).items():
        _print_row(f"fused without {name}", row)
    return figures


def _print_row(name: str, row: dict[str, Any]) -> None:
    shares = "".join(f"{row[f'R@{cutoff}']:>8.3f}" for cutoff in CUTOFFS)
    print(f"{name:<28}{shares}{row['p50_ms']:>9.1f}")
