"""Plain text: blocks are what blank lines keep apart."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from memsidecar.domain.document_reading import Block

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLANK_LINES = re.compile(r"(?:\r\n|\n|\r)[^\S\r\n]*(?:(?:\r\n|\n|\r)[^\S\r\n]*)+")


def text_blocks(content: str) -> Iterator[Block]:
    """Give the paragraphs of a text."""
    start = 0
    for match in _BLANK_LINES.finditer(content):
        if match.start() > start:
            yield Block(start, match.start())
        start = match.end()
    if start < len(content):
        yield Block(start, len(content))
