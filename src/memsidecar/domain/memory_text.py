"""What a user memory is made of: paragraphs of text, and an object that patches are merged into."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from memsidecar.domain.embedding import MAX_WORD_PIECES

if TYPE_CHECKING:
    from collections.abc import Callable

_PARAGRAPH_BREAK = re.compile(r"\n(?:[ \t\r]*\n)+")
_PASSAGE_WORD_PIECES = MAX_WORD_PIECES - 2
"""Word pieces of one passage; [CLS] and [SEP] take the other two."""


def size_in_bytes(text: str) -> int:
    """Give the size of a text in UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))


def move_oldest(text: str, limit: int) -> tuple[list[str], str]:
    """Take paragraphs off the front of a text until the rest has at most ``limit`` bytes.

    The last paragraph always stays, however large it is: the caller decides what to do about that.

    Returns:
        The paragraphs taken, oldest first and without blank ones, and the rest.
    """
    moved: list[str] = []
    start = 0
    left = size_in_bytes(text)
    for paragraph_break in _PARAGRAPH_BREAK.finditer(text):
        if left <= limit:
            break
        paragraph = text[start : paragraph_break.start()]
        if paragraph.strip():
            moved.append(paragraph)
        left -= size_in_bytes(text[start : paragraph_break.end()])
        start = paragraph_break.end()
    return moved, text[start:]


def split_passage(paragraph: str, token_offsets: Callable[[str], list[tuple[int, int]]]) -> list[str]:
    """Cut a paragraph into passages the model reads whole, between words where it can.

    Args:
        paragraph: Any text that is not blank.
        token_offsets: ``Embedder.token_offsets``.
    """
    offsets = token_offsets(paragraph)
    if len(offsets) <= _PASSAGE_WORD_PIECES:
        return [paragraph]
    passages = []
    first = 0
    while first < len(offsets):
        last = min(first + _PASSAGE_WORD_PIECES, len(offsets))
        while last < len(offsets) and last > first + 1 and offsets[last - 1][1] == offsets[last][0]:
            last -= 1
        if last == first + 1:  # one unbroken run of characters: cut it anywhere
            last = min(first + _PASSAGE_WORD_PIECES, len(offsets))
        end = offsets[last][0] if last < len(offsets) else len(paragraph)
        passages.append(paragraph[offsets[first][0] if first else 0 : end].strip())
        first = last
    return passages


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396): objects are merged, null removes a member, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
