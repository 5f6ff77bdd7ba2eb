"""Collections with relevance labels: corpus.jsonl, queries.jsonl and qrels.tsv in a folder each."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CUTOFF = 10


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Texts, questions, and which text answers which question how well."""

    name: str
    texts: dict[str, str]
    """Text by id."""
    questions: dict[str, str]
    """Question by id; only those with a label."""
    grades: dict[str, dict[str, int]]
    """Grade by text id, by question id."""


def labelled_sets(folder: Path) -> Iterator[LabelledSet]:
    """Read every set below a folder."""
    for qrels in sorted(folder.glob("*/qrels.tsv")):
        grades: dict[str, dict[str, int]] = defaultdict(dict)
        for line in qrels.read_text(encoding="utf-8").splitlines():
            question, text, grade = line.split()[0], line.split()[-2], line.split()[-1]
            if grade.isdigit():
                grades[question][text] = int(grade)
        questions = _texts(qrels.parent / "queries.jsonl")
        yield LabelledSet(
            qrels.parent.name,
            _texts(qrels.parent / "corpus.jsonl"),
            {key: text for key, text in questions.items() if key in grades},
            dict(grades),
        )


def _texts(path: Path) -> dict[str, str]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {str(row["id"]): row["text"] for row in rows}


def ndcg(found: Sequence[str], grades: dict[str, int]) -> float:
    """Normalised discounted cumulative gain of the first ten (Järvelin and Kekäläinen, 2002); grades are gains."""
    gain = sum(grades.get(text, 0) / math.log2(place + 2) for place, text in enumerate(found[:CUTOFF]))
    ideal = sorted(grades.values(), reverse=True)[:CUTOFF]
    return gain / sum(grade / math.log2(place + 2) for place, grade in enumerate(ideal))
