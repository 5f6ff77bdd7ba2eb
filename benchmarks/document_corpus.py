"""A made-up collection shaped like real ones: few tenants hold most chunks, few words make up most of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

DIMENSIONS = 384
TENANT_EXPONENT = 1.0
"""Zipf's law over tenants: of 50, the largest holds a fifth, the smallest 1 in 225."""
VOCABULARY = 40_000
WORD_EXPONENT = 1.05
"""Zipf's law over words, as in English prose."""
TOPICS = 200
TOPIC_WORDS = 60
TOPIC_SHARE = 0.25
"""Part of a text that is about its topic rather than in words everybody uses."""
WORDS_PER_CHUNK = 150
VECTOR_SPREAD = 0.8
"""Length of the random part against the topic's: passages of one topic come out at cosines of 0.4 to 0.8."""

_CONSONANTS = "bcdfghjklmnprstvz"
_VOWELS = "aeiou"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage and the vector it would have."""

    tenant: int
    text: str
    vector: bytes


class Corpus:
    """Makes the same chunks and questions for the same seed."""

    def __init__(self, *, tenants: int, chunks: int, seed: int = 1) -> None:
        self._random = np.random.default_rng(seed)
        self._words = [_word(number) for number in range(VOCABULARY)]
        weights = 1 / np.arange(1, VOCABULARY + 1) ** WORD_EXPONENT
        self._cumulative = np.cumsum(weights / weights.sum())
        self._topic_words = self._random.integers(300, VOCABULARY, (TOPICS, TOPIC_WORDS))
        self._centres = _unit(self._random.standard_normal((TOPICS, DIMENSIONS)))
        shares = 1 / np.arange(1, tenants + 1) ** TENANT_EXPONENT
        self.sizes = np.maximum(1, np.round(shares / shares.sum() * chunks)).astype(int).tolist()

    def chunks(self) -> Iterator[Chunk]:
        """Give every chunk, tenant by tenant."""
        for tenant, size in enumerate(self.sizes):
            for _ in range(size):
                topic = int(self._random.integers(TOPICS))
                yield Chunk(tenant, self._text(topic, WORDS_PER_CHUNK), self._vector(topic))

    def question(self) -> tuple[str, bytes]:
        """Give a question of eight words about some topic, and its vector."""
        topic = int(self._random.integers(TOPICS))
        return self._text(topic, 8), self._vector(topic)

    def _text(self, topic: int, length: int) -> str:
        own = int(length * TOPIC_SHARE) or 1
        numbers = np.concatenate(
            [
                np.searchsorted(self._cumulative, self._random.random(length - own)),
                self._random.choice(self._topic_words[topic], own),
            ]
        )
        self._random.shuffle(numbers)
        return " ".join(self._words[number] for number in numbers)

    def _vector(self, topic: int) -> bytes:
        noise = _unit(self._random.standard_normal(DIMENSIONS)) * VECTOR_SPREAD
        vector: NDArray[np.float64] = _unit(self._centres[topic] + noise)
        return vector.astype("<f4").tobytes()


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(values, axis=-1, keepdims=True)
    return values / lengths


def _word(number: int) -> str:
    """Spell a number in syllables, so that every word is one to the text search parser."""
    syllables = []
    number += 85
    while number:
        number, digit = divmod(number, 85)
        syllables.append(_CONSONANTS[digit // 5] + _VOWELS[digit % 5])
    return "".join(syllables)
