"""The port through which the bytes of a document become text and passages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from memsidecar.domain.documents import DocumentType


class UnreadableDocument(Exception):
    """A document that cannot be taken in as it is. The message says what is wrong and what to change."""


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document as it was sent."""

    document_key: str
    raw: bytes = field(repr=False)
    document_type: DocumentType | None = None
    """None to guess from the name and the content."""
    title: str = ""
    """Empty to take the first heading, else the key."""


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of text that belongs together: a paragraph, a list item, a function. Blocks never overlap."""

    start: int
    end: int
    heading_path: tuple[str, ...] = ()
    """Headings above it, outermost first."""
    page: int = 0
    """Page it starts on, from 1; 0 where there are no pages."""
    by_line: bool = False
    """Split between lines, not sentences, when it has to be split: code, tables."""


@dataclass(frozen=True, slots=True)
class Passage:
    """The characters ``[start, end)`` of a text that become one chunk."""

    start: int
    end: int
    heading_path: tuple[str, ...] = ()
    page: int = 0


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """A document as text, cut into passages."""

    document_type: DocumentType
    title: str
    titled: bool
    """Whether the title was given or found, and is not just the key."""
    content: str = field(repr=False)
    passages: tuple[Passage, ...] = field(repr=False)


class DocumentReader(Protocol):
    """Turns bytes into text and passages, away from the process that serves."""

    async def read(self, source: SourceDocument) -> ReadDocument:
        """Read one document; never affects another.

        Raises:
            UnreadableDocument: The document is broken, encrypted, empty, of another type, or too much work.
        """
        ...
