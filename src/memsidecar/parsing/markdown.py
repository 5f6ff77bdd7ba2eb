"""Markdown: blocks as CommonMark and GitHub's tables define them, under the headings above them.

The content stays as it was sent, markup included: it is what people read and what offsets point into.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from memsidecar.domain.document_reading import Block

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markdown_it.token import Token

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|$)")
_FRONT_MATTER = re.compile(r"\A---[^\S\r\n]*[\r\n].*?[\r\n](?:---|\.\.\.)[^\S\r\n]*(?=[\r\n]|\Z)", re.DOTALL)
_FRONT_MATTER_TITLE = re.compile(r"[\r\n]title:[^\S\r\n]*[\"']?([^\r\n]*?)[\"']?[^\S\r\n]*[\r\n]")
_BY_LINE = frozenset({"fence", "code_block", "table_open", "html_block"})


@dataclass(frozen=True, slots=True)
class _Part:
    """Lines ``[first, last)`` that belong together."""

    first: int
    last: int
    by_line: bool = False
    heading_level: int = 0
    heading: str = ""


def markdown_blocks(content: str) -> tuple[str, list[Block]]:
    """Give the title, empty when there is none, and the blocks of a Markdown text."""
    starts = [match.start() for match in _LINE.finditer(content) if match.end() > match.start()]
    starts.append(len(content))
    front_matter = _FRONT_MATTER.match(content)
    blocks: list[Block] = []
    skipped = 0
    title = ""
    if front_matter is not None:
        found = _FRONT_MATTER_TITLE.search(front_matter.group())
        title = found.group(1) if found else ""
        blocks.append(Block(0, front_matter.end(), by_line=True))
        skipped = next(line for line, start in enumerate(starts) if start >= front_matter.end())
    # The parser knows only one kind of line end; line numbers lead back to the content as it is.
    lines = [content[start:end].rstrip("\r\n") for start, end in itertools.pairwise(starts)]
    parts = _parts(MarkdownIt("commonmark").enable("table").parse("\n".join(lines[skipped:])), skipped)
    headings: list[tuple[int, str]] = []
    for part in _with_gaps(parts, skipped, len(lines)):
        if part.heading_level:
            headings = [(level, text) for level, text in headings if level < part.heading_level]
            headings.append((part.heading_level, part.heading))
            title = title or part.heading
        blocks.append(
            Block(
                starts[part.first],
                starts[part.last],
                tuple(text for _, text in headings),
                by_line=part.by_line,
            )
        )
    return title, blocks


def _parts(tokens: Sequence[Token], skipped: int) -> Iterator[_Part]:
    """Give top-level blocks, and the items of top-level lists one by one."""
    for index, token in enumerate(tokens):
        if token.map is None or token.nesting < 0:
            continue
        first, last = token.map[0] + skipped, token.map[1] + skipped
        if token.level == 1 and token.type == "list_item_open":
            yield _Part(first, last)
        elif token.level == 0 and token.type not in {"bullet_list_open", "ordered_list_open"}:
            heading = token.type == "heading_open"
            yield _Part(
                first,
                last,
                by_line=token.type in _BY_LINE,
                heading_level=int(token.tag[1:]) if heading else 0,
                heading=_plain(tokens[index + 1]) if heading else "",
            )


def _with_gaps(parts: Iterator[_Part], first: int, last: int) -> Iterator[_Part]:
    """Put lines that belong to no block, such as link definitions, between the blocks."""
    for part in parts:
        if part.first > first:
            yield _Part(first, part.first, by_line=True)
        start = max(first, part.first)
        if part.last > start:
            yield _Part(start, part.last, part.by_line, part.heading_level, part.heading)
        first = max(first, part.last)
    if last > first:
        yield _Part(first, last, by_line=True)


def _plain(inline: Token) -> str:
    """Give the text of a heading without its markup."""
    texts = (
        " " if child.type in {"softbreak", "hardbreak"} else child.content
        for child in inline.children or ()
        if child.type in {"text", "code_inline", "softbreak", "hardbreak", "image"}
    )
    return " ".join("".join(texts).split())
