"""Cuts text into passages at its own joints, sized in the model's word pieces so that none is read only in part."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from memsidecar.domain.document_reading import Passage
from memsidecar.domain.embedding import MAX_WORD_PIECES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memsidecar.domain.document_reading import Block

WordPieces = Callable[[str], Sequence[tuple[int, int]]]
"""Gives the character span of each word piece of a text, special tokens left out."""

CHUNKING_VERSION = 1
"""Part of what decides whether a stored document is up to date: raise it when passages come out differently."""

BUDGET = MAX_WORD_PIECES - 2
"""Word pieces of a chunk with its context; [CLS] and [SEP] take the other two."""
CONTEXT_BUDGET = 48
"""Word pieces at most of the title and headings that are embedded before a chunk."""
OVERLAP = 48
"""Word pieces at most of the end of a chunk that the next one of the same section repeats, in whole sentences."""
SMALL = 32
"""A section with fewer word pieces, such as a heading on its own, goes together with the one after it."""
LONGEST_SENTENCE = 2_000
"""Characters; longer runs without a joint are cut at a blank, else anywhere. This bounds a chunk in characters too: a
word of over 100 characters is one unknown word piece to the model, however long it is."""

# The characters at which the model's tokenizer splits words whatever stands around them. It drops the other characters
# that Python calls blank (vertical tab, form feed, separators, next line) and joins what they kept apart.
_BLANK = r"[^\S\x0b\x0c\x1c-\x1f\x85]"
_BLANKS = re.compile(rf"{_BLANK}+")
_SENTENCE_END = re.compile(
    rf"(?<=[.!?\u2026])[\"'\u201d\u2019)\]]*{_BLANK}+|(?<=[\u3002\uff01\uff1f]){_BLANK}*"
)
"""After a full stop and closing quotes or brackets; the wide marks of Chinese and Japanese need no blank after them."""
_LINE_END = re.compile(r"[\r\n]+")
_TOKENIZED_AT_ONCE = 8_192
"""Characters; bounds memory, and costs nothing as word pieces never reach across a blank."""


def context_of(title: str, heading_path: Sequence[str], word_pieces: WordPieces) -> str:
    """Give what is embedded before a chunk, so that it is found by what it is about: title and headings, in one line.

    When they have more than 48 word pieces the outer ones are left out; an innermost one that is longer is cut.
    """
    parts: list[str] = []
    for part in (title, *heading_path):
        line = " ".join(part.split())
        if line and parts[-1:] != [line]:
            parts.append(line)
    while parts:
        line = " > ".join(parts)
        spans = word_pieces(line)
        if len(spans) <= CONTEXT_BUDGET:
            return line
        if len(parts) == 1:
            return line[: spans[CONTEXT_BUDGET][0]].rpartition(" ")[0]
        parts = parts[1:]
    return ""


def embedded_text(context: str, passage: str) -> str:
    """Give the text a chunk is embedded as."""
    return f"{context}\n{passage}" if context else passage


def cut_passages(
    content: str, title: str, blocks: Sequence[Block], word_pieces: WordPieces
) -> Iterator[Passage]:
    """Cut a text into passages of at most 254 word pieces, context included.

    Every character of every block that is not blank is in some passage. Passages end where blocks end if they can,
    else at the end of a sentence or line, else at a blank.

    Args:
        content: The text.
        title: The document's title if it says something, else an empty text.
        blocks: In order, without overlap.
        word_pieces: The model's tokenizer.
    """

    @lru_cache(maxsize=64)
    def room(heading_path: tuple[str, ...]) -> int:
        return BUDGET - len(word_pieces(context_of(title, heading_path, word_pieces)))

    packer = _Packer()
    section: tuple[str, ...] | None = None
    for block in blocks:
        if section != block.heading_path:
            section = block.heading_path
            if packer.used >= SMALL:
                yield from packer.finish(section)
            packer.go_on_under(section)
        sentences = _sentences(content, block, word_pieces)
        total = sum(sentence.pieces for sentence in sentences)
        limit = room(packer.heading_path)
        if packer.used + total > limit and packer.used >= limit // 2:
            yield from packer.finish(section, overlap=OVERLAP)
        for sentence in _fitting(content, sentences, BUDGET - CONTEXT_BUDGET, word_pieces):
            limit = room(packer.heading_path)
            if packer.used + sentence.pieces > limit or not (sentence.whole and packer.whole):
                limit = room(section)
                yield from packer.finish(
                    section, overlap=min(OVERLAP, limit - sentence.pieces) if sentence.whole else 0
                )
            packer.add(sentence, block.page)
    yield from packer.finish(())


@dataclass(frozen=True, slots=True)
class _Sentence:
    start: int
    end: int
    pieces: int
    whole: bool = True
    """False for a part of a word that had to be cut; it then is a passage of its own."""


class _Packer:
    """Collects sentences until a passage is full."""

    def __init__(self) -> None:
        self.heading_path: tuple[str, ...] = ()
        self.used = 0
        self.whole = True
        self._sentences: list[tuple[_Sentence, int]] = []
        self._new = 0
        """Sentences that are in no passage yet; those before them are overlap."""

    def go_on_under(self, heading_path: tuple[str, ...]) -> None:
        """Enter another section; what is held is too small to stand alone and goes together with its beginning."""
        if not self._new:
            self._hold([], heading_path)
            return
        shared = 0
        for mine, other in zip(self.heading_path, heading_path, strict=False):
            if mine != other:
                break
            shared += 1
        below = shared == len(self.heading_path)
        self.heading_path = heading_path if below else heading_path[:shared]

    def add(self, sentence: _Sentence, page: int) -> None:
        """Take one more sentence into the passage."""
        self._sentences.append((sentence, page))
        self._new += 1
        self.used += sentence.pieces
        self.whole = self.whole and sentence.whole

    def finish(self, next_heading_path: tuple[str, ...], *, overlap: int = 0) -> Iterator[Passage]:
        """End the passage; its last sentences, up to ``overlap`` word pieces, begin the next one."""
        if self._new:
            first, page = self._sentences[0]
            yield Passage(first.start, self._sentences[-1][0].end, self.heading_path, page)
        repeated: list[tuple[_Sentence, int]] = []
        if self.whole and self._new:
            for sentence, page in reversed(self._sentences[1:]):
                overlap -= sentence.pieces
                if overlap < 0:
                    break
                repeated.insert(0, (sentence, page))
        self._hold(repeated, next_heading_path)

    def _hold(self, repeated: list[tuple[_Sentence, int]], heading_path: tuple[str, ...]) -> None:
        self._sentences = repeated
        self._new = 0
        self.used = sum(sentence.pieces for sentence, _ in repeated)
        self.whole = True
        self.heading_path = heading_path


def _sentences(content: str, block: Block, word_pieces: WordPieces) -> list[_Sentence]:
    """Split a block at sentence or line ends into parts of at most 2,000 characters, and count their word pieces."""
    spans = [
        span
        for start, end in _split(
            content, block.start, block.end, _LINE_END if block.by_line else _SENTENCE_END
        )
        for span in _shortened(content, start, end, keep_indentation=block.by_line)
    ]
    sentences: list[_Sentence] = []
    index = 0
    while index < len(spans):
        first, last = index, index
        while last + 1 < len(spans) and spans[last + 1][1] - spans[first][0] <= _TOKENIZED_AT_ONCE:
            last += 1
        group_start = spans[first][0]
        starts = [start + group_start for start, _ in word_pieces(content[group_start : spans[last][1]])]
        for start, end, whole in spans[first : last + 1]:
            if whole:
                pieces = bisect_left(starts, end) - bisect_left(starts, start)
            else:
                pieces = len(word_pieces(content[start:end]))
            sentences.append(_Sentence(start, end, pieces, whole))
        index = last + 1
    return sentences


def _split(content: str, start: int, end: int, joint: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    position = start
    for match in joint.finditer(content, start, end):
        if match.end() > position:
            yield position, match.end()
            position = match.end()
    if position < end:
        yield position, end


def _shortened(
    content: str, start: int, end: int, *, keep_indentation: bool
) -> Iterator[tuple[int, int, bool]]:
    """Cut a span that is too long at its blanks and leave blanks at the ends out; the flag says "ends at a blank"."""
    whole = True
    while start < end:
        stop, next_whole = end, True
        if end - start > LONGEST_SENTENCE:
            stop, next_whole = _last_joint(content, start, start + LONGEST_SENTENCE)
        text = content[start:stop]
        if not text.isspace():
            indentation = 0 if keep_indentation else len(text) - len(text.lstrip())
            yield start + indentation, start + len(text.rstrip()), whole and next_whole
        start, whole = stop, next_whole


def _last_joint(content: str, start: int, end: int) -> tuple[int, bool]:
    """Give the best place to cut in ``(start, end]``: after the last line end, else the last blank, else anywhere."""
    half = start + (end - start) // 2
    for joint in (_LINE_END, _BLANKS):
        places = [match.end() for match in joint.finditer(content, half, end)]
        if places:
            return places[-1], True
    return end, False


def _fitting(
    content: str, sentences: Sequence[_Sentence], limit: int, word_pieces: WordPieces
) -> Iterator[_Sentence]:
    """Cut sentences of more than ``limit`` word pieces at blanks, else anywhere."""
    for sentence in sentences:
        if sentence.pieces <= limit:
            yield sentence
            continue
        start, whole = sentence.start, sentence.whole
        while True:
            text = content[start : sentence.end]
            spans = word_pieces(text)
            if len(spans) <= limit:
                yield _Sentence(start, sentence.end, len(spans), whole)
                break
            blanks = [match.span() for match in _BLANKS.finditer(text, 1, spans[limit][0] + 1)]
            if blanks:
                stop, resume, next_whole = *blanks[-1], True
            else:
                stop, next_whole = spans[limit][0] or 1, False
                while (excess := len(word_pieces(text[:stop])) - limit) > 0 and stop > 1:
                    stop = max(1, stop - excess)
                resume = stop
            yield _Sentence(start, start + stop, len(word_pieces(text[:stop])), whole and next_whole)
            start, whole = start + resume, next_whole
