"""Remembers the embeddings of texts seen a moment ago."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from memsidecar.domain.embedding import Embedding

LONGEST_TEXT: Final = 1024
"""Characters; longer texts are documents and long turns, which do not repeat."""


class RecentEmbeddings:
    """The embeddings used last, up to a number of texts (about 2 KB each). The caller keeps threads apart."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[str, Embedding] = OrderedDict()

    def get(self, text: str) -> Embedding | None:
        """Give the embedding of a text if it is remembered, and remember it for longer."""
        embedding = self._entries.get(text)
        if embedding is not None:
            self._entries.move_to_end(text)
        return embedding

    def put(self, text: str, embedding: Embedding) -> None:
        """Remember a text unless it is long, forgetting the one used longest ago when full."""
        if len(text) > LONGEST_TEXT or self._capacity == 0:
            return
        self._entries[text] = embedding
        self._entries.move_to_end(text)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
