"""Sets of words, written as people write lists of them."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """Give the words of a text that blanks keep apart."""
    return frozenset(text.split())
