"""The port through which the domain asks for embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

DIMENSIONS = 384
"""Length of every embedding: the hidden size of all-MiniLM-L6-v2."""

MAX_WORD_PIECES = 256
"""Word pieces the model reads of one text, [CLS] and [SEP] included; the rest is cut and reported."""


class Lane(Enum):
    """Who waits for an embedding."""

    INTERACTIVE = "interactive"
    """A person waits: appending a turn, recalling, searching."""

    BACKGROUND = "background"
    """Nobody waits: ingesting documents, importing."""


@dataclass(frozen=True, slots=True)
class LaneCounters:
    """What happened in one lane of an embedder since it started. Times are sums, in seconds."""

    queued_texts: int
    """Waiting now."""
    queued_tokens: int
    """Estimated word pieces waiting now."""
    running_groups: int
    """Being run now."""
    groups: int
    texts: int
    tokens: int
    """Word pieces embedded."""
    cached: int
    """Texts answered from memory."""
    joined: int
    """Texts that were in flight for somebody else already."""
    refused: int
    """Calls answered with EmbeddingOverloaded."""
    dropped: int
    """Texts never run because their callers had gone or were out of time."""
    queue_seconds: float
    """Summed over texts; the other times are summed over groups."""
    tokenise_seconds: float
    run_seconds: float


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model made a vector; vectors of different identities are never compared."""

    name: str
    """For example ``all-MiniLM-L6-v2``."""
    precision: str
    """``fp32`` or ``int8``: the arithmetic of the graph, not the storage of the vector."""
    sha256: str
    """Hex digest that identifies the weights and the graph made from them."""
    dimensions: int = DIMENSIONS


@dataclass(frozen=True, slots=True)
class Embedding:
    """One text's vector and what the tokenizer saw of it."""

    vector: bytes
    """384 float32 values, little endian (1,536 bytes), of unit L2 length."""
    token_count: int
    """Word pieces of the whole text, [CLS] and [SEP] included, before anything was cut."""
    truncated: bool
    """True when the text had more than 256 word pieces and the rest was not read by the model."""


NO_EMBEDDING = Embedding(vector=bytes(4 * DIMENSIONS), token_count=0, truncated=False)
"""What is stored where there is no text: a deletion."""


class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def model(self) -> ModelIdentity:
        """The identity stored beside every vector this embedder makes."""
        ...

    async def embed(
        self,
        texts: Sequence[str],
        *,
        owner: UUID | None = None,
        lane: Lane = Lane.INTERACTIVE,
        deadline: float | None = None,
    ) -> list[Embedding]:
        """Embed every text, in order.

        Args:
            texts: Any number of texts; an empty sequence gives an empty list.
            owner: The tenant whose texts they are. Tenants take turns, and share no work that could tell one by its
                time what another has said.
            lane: Who waits.
            deadline: Event loop time (``loop.time()``) after which nobody wants the answer; work not started
                by then is dropped.

        Raises:
            EmbeddingOverloaded: The queue is full; nothing was queued.
            DeadlineExceeded: The deadline passed before the work started.
        """
        ...

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        """Give the character span ``[start, end)`` of each word piece of the whole text, special tokens left out."""
        ...
