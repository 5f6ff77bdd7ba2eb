"""Where the words of a query stand in a text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_PHRASE = re.compile(r"(?<!\S)(-?)\"([^\"]*)\"|\"([^\"]*)\"")


def required_phrases(query: str) -> list[str]:
    """Give what a query puts in quotation marks, without what it rules out."""
    return [
        phrase
        for sign, first, second in _PHRASE.findall(query)
        if not sign and (phrase := (first or second).strip())
    ]


def highlighted(text: str, words: Collection[str], query: str) -> tuple[tuple[int, int], ...]:
    """Give the spans ``[start, end)`` of words and of the query's phrases in a text, in order, without overlap.

    Args:
        text: A passage.
        words: Words of the passage that match the query, as they are written there.
        query: Its phrases in quotation marks are marked whole.
    """
    phrases = [r"\s+".join(map(re.escape, phrase.split())) for phrase in required_phrases(query)]
    longest_first = sorted(words, key=len, reverse=True)
    alternatives = [*phrases, *(rf"(?<!\w){re.escape(word)}(?!\w)" for word in longest_first)]
    if not alternatives:
        return ()
    pattern = re.compile("|".join(alternatives), re.IGNORECASE)
    return tuple(match.span() for match in pattern.finditer(text))
