"""Remembers the embeddings of texts seen a moment ago."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from uuid import UUID

    from memsidecar.domain.embedding import Embedding

LONGEST_TEXT: Final = 1024
"""Characters; longer texts are documents and long turns, which do not repeat."""


class RecentEmbeddings:
    """The embeddings used last, up to a number of texts (about 2 KB each). The caller keeps threads apart.

    Each owner has its own: whether a text is remembered shows in the time of the answer, and must not tell one tenant
    what another has said.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[tuple[UUID | None, str], Embedding] = OrderedDict()

    def get(self, owner: UUID | None, text: str) -> Embedding | None:
        """Give the embedding of an owner's text if it is remembered, and remember it for longer."""
        embedding = self._entries.get((owner, text))
        if embedding is not None:
            self._entries.move_to_end((owner, text))
        return embedding

    def put(self, owner: UUID | None, text: str, embedding: Embedding) -> None:
        """Remember a text unless it is long, forgetting the one used longest ago when full."""
        if len(text) > LONGEST_TEXT or self._capacity == 0:
            return
        self._entries[owner, text] = embedding
        self._entries.move_to_end((owner, text))
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
