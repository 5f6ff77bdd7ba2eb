"""Text to word pieces, as the model was trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from memsidecar.domain.embedding import MAX_WORD_PIECES

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class WordPieces:
    """One text as the model reads it."""

    ids: list[int]
    """Vocabulary indices, at most 256, from [CLS] to [SEP]."""
    token_count: int
    """Word pieces of the whole text, [CLS] and [SEP] included."""

    @property
    def truncated(self) -> bool:
        """Whether the model does not read the text to its end."""
        return self.token_count > len(self.ids)


class WordPieceTokenizer:
    """The published tokenizer, cutting at 256 word pieces. Safe to use from several threads."""

    def __init__(self, file: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(file))
        # The published file pads to, and cuts at, 128; the model was configured for 256.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, text: str) -> WordPieces:
        """Cut a text into word pieces; what lies past the 255th is dropped and [SEP] put in its place."""
        ids = self._tokenizer.encode(text).ids
        if len(ids) <= MAX_WORD_PIECES:
            return WordPieces(ids=ids, token_count=len(ids))
        return WordPieces(ids=[*ids[: MAX_WORD_PIECES - 1], ids[-1]], token_count=len(ids))

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Give the character span ``[start, end)`` of every word piece, none cut, without [CLS] and [SEP]."""
        offsets: list[tuple[int, int]] = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return offsets
