"""What a precision is worth: dense retrieval on the labelled data, every text embedded by the engine itself.

LoCoMo: turns as "[date] speaker: text", questions without the names of the two people, each chat searched within
itself; R@k is the mean share of a question's evidence among the first k (categories 1 to 4). Document sets: nDCG@10
and R@10 over the whole corpus.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.document_sets import CUTOFF, labelled_sets, ndcg
from memsidecar.domain.embedding import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.document_sets import LabelledSet
    from memsidecar.embedding.engine import OnnxEmbedder

_CALL_SIZE = 128


async def measure_quality(embedder: OnnxEmbedder, data: Path, *, documents: bool) -> dict[str, float]:
    """Give every figure in points (0 to 100); document sets take minutes, so they can be left out."""
    figures = await _locomo(embedder, data / "locomo")
    if documents:
        for labelled in labelled_sets(data):
            figures |= await _documents(embedder, labelled)
    return figures


async def _embed(embedder: OnnxEmbedder, texts: Sequence[str]) -> NDArray[np.float32]:
    vectors = []
    for first in range(0, len(texts), _CALL_SIZE):
        embeddings = await embedder.embed(texts[first : first + _CALL_SIZE], lane=Lane.BACKGROUND)
        vectors += [np.frombuffer(embedding.vector, "<f4") for embedding in embeddings]
    return np.stack(vectors)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


async def _locomo(embedder: OnnxEmbedder, folder: Path) -> dict[str, float]:
    turns = _lines(folder / "turns.jsonl")
    questions = [
        question
        for question in _lines(folder / "questions.jsonl")
        if question["category"] in {1, 2, 3, 4} and question["evidence"]
    ]
    speakers: dict[str, set[str]] = {}
    for turn in turns:
        speakers.setdefault(turn["conv"], set()).add(turn["speaker"])

    def without_names(question: dict[str, Any]) -> str:
        names = "|".join(map(re.escape, speakers[question["conv"]]))
        return " ".join(re.sub(rf"\b({names})('s)?\b", "", question["question"]).split())

    vectors = await _embed(
        embedder, [f"[{turn['session_date']}] {turn['speaker']}: {turn['text']}" for turn in turns]
    )
    queries = await _embed(embedder, [without_names(question) for question in questions])
    chats = np.array([turn["conv"] for turn in turns])
    names = np.array([turn["dia_id"] for turn in turns])
    shares: dict[int, list[float]] = {5: [], 10: [], 20: []}
    for question, query in zip(questions, queries, strict=True):
        chat = np.flatnonzero(chats == question["conv"])
        ranked = names[chat[np.argsort(-(vectors[chat] @ query), kind="stable")]]
        evidence = set(question["evidence"])
        for cutoff, values in shares.items():
            values.append(len(evidence.intersection(ranked[:cutoff])) / len(evidence))
    return {f"locomo R@{cutoff}": 100 * float(np.mean(values)) for cutoff, values in shares.items()}


async def _documents(embedder: OnnxEmbedder, labelled: LabelledSet) -> dict[str, float]:
    names = list(labelled.texts)
    vectors = await _embed(embedder, list(labelled.texts.values()))
    asked = await _embed(embedder, list(labelled.questions.values()))
    gains, recalls = [], []
    for question, vector in zip(labelled.questions, asked, strict=True):
        grades = labelled.grades[question]
        found = [names[row] for row in np.argsort(-(vectors @ vector), kind="stable")[:CUTOFF]]
        gains.append(ndcg(found, grades))
        recalls.append(len(grades.keys() & set(found)) / min(len(grades), CUTOFF))
    return {
        f"{labelled.name} nDCG@{CUTOFF}": 100 * float(np.mean(gains)),
        f"{labelled.name} R@{CUTOFF}": 100 * float(np.mean(recalls)),
    }
