"""Texts of the lengths people write in chats, made up or from the data sets."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_WORDS = [
    "the",
    "a",
    "to",
    "and",
    "of",
    "in",
    "for",
    "on",
    "with",
    "about",
    "before",
    "after",
    "maybe",
    "really",
    "never",
    "always",
    "we",
    "they",
    "she",
    "he",
    "you",
    "it",
    "this",
    "that",
    "river",
    "station",
    "coffee",
    "release",
    "cluster",
    "meeting",
    "doctor",
    "garden",
    "violin",
    "ticket",
    "bridge",
    "invoice",
    "winter",
    "harbour",
    "sister",
    "deploy",
    "rollback",
    "walk",
    "paint",
    "cook",
    "travel",
    "remember",
    "forget",
    "promise",
    "finish",
    "call",
    "move",
    "buy",
    "sell",
    "learn",
    "teach",
    "win",
    "lose",
    "red",
    "quiet",
    "early",
    "broken",
    "cheap",
    "strange",
    "happy",
    "seven",
    "forty",
    "Monday",
    "October",
    "Lisbon",
    "Kyoto",
    "unbelievable",
    "refactoring",
]


def made_up_texts(count: int, seed: int = 7) -> list[str]:
    """Give texts whose word counts are lognormal (median 18, mean 24), as chat turns' are; no two are the same."""
    source = random.Random(seed)
    return [
        " ".join(source.choices(_WORDS, k=1 + int(source.lognormvariate(2.9, 0.75)))) + f" {number}"
        for number in range(count)
    ]


def chat_texts(data: Path | None, count: int) -> list[str]:
    """Give distinct texts in random order: LoCoMo's turns where there is data, made up ones otherwise."""
    if data is None:
        return made_up_texts(count)
    lines = (data / "locomo" / "turns.jsonl").read_text(encoding="utf-8").splitlines()
    texts = list(dict.fromkeys(json.loads(line)["text"] for line in lines))
    random.Random(7).shuffle(texts)
    return texts[:count]
