"""How the server and a reader process talk: frames of one byte of kind, four of length, and the payload.

Plain frames and JSON, never pickles: a process that a hostile file took over must not be able to run anything in the
server.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from memsidecar.domain.document_reading import Passage, ReadDocument, SourceDocument, UnreadableDocument
from memsidecar.domain.documents import DocumentType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HEADER = struct.Struct(">cI")
_PASSAGES_PER_FRAME = 1_000
"""So that no frame takes long to decode."""


class Kind(Enum):
    """What a frame holds."""

    READY = b"y"
    """Sent once, before anything else: the process can read documents."""
    SOURCE = b"s"
    """JSON: what is known about a document to read; its bytes follow."""
    RAW = b"r"
    """The bytes of the document."""
    DOCUMENT = b"d"
    """JSON: type and title."""
    CONTENT = b"c"
    """The text in UTF-8."""
    PASSAGES = b"p"
    """JSON: a list of passages."""
    END = b"e"
    """Nothing more comes."""
    UNREADABLE = b"u"
    """UTF-8: why the document cannot be taken in."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame."""

    kind: Kind
    payload: bytes = b""

    def encoded(self) -> Iterator[bytes]:
        """Give the bytes to write, the payload uncopied."""
        yield HEADER.pack(self.kind.value, len(self.payload))
        yield self.payload


def source_frames(source: SourceDocument) -> Iterator[Frame]:
    """Give the request to read a document."""
    known = {
        "document_key": source.document_key,
        "document_type": source.document_type.value if source.document_type else None,
        "title": source.title,
    }
    yield Frame(Kind.SOURCE, json.dumps(known).encode())
    yield Frame(Kind.RAW, source.raw)


def source_from(known: bytes, raw: bytes) -> SourceDocument:
    """Rebuild the request."""
    values = json.loads(known)
    kind = values["document_type"]
    return SourceDocument(values["document_key"], raw, DocumentType(kind) if kind else None, values["title"])


def document_frames(document: ReadDocument) -> Iterator[Frame]:
    """Give the answer for a document that was read."""
    about = {
        "document_type": document.document_type.value,
        "title": document.title,
        "titled": document.titled,
    }
    yield Frame(Kind.DOCUMENT, json.dumps(about).encode())
    yield Frame(Kind.CONTENT, document.content.encode())
    for first in range(0, len(document.passages), _PASSAGES_PER_FRAME):
        passages = document.passages[first : first + _PASSAGES_PER_FRAME]
        yield Frame(Kind.PASSAGES, json.dumps([asdict(passage) for passage in passages]).encode())
    yield Frame(Kind.END)


class DocumentAssembly:
    """Rebuilds the answer frame by frame."""

    def __init__(self) -> None:
        self._about: Mapping[str, Any] = {}
        self._content = ""
        self._passages: list[Passage] = []

    def add(self, frame: Frame) -> ReadDocument | None:
        """Take the next frame; the document once it is whole.

        Raises:
            UnreadableDocument: The frame says so.
        """
        if frame.kind is Kind.UNREADABLE:
            raise UnreadableDocument(frame.payload.decode())
        if frame.kind is Kind.DOCUMENT:
            self._about = json.loads(frame.payload)
        elif frame.kind is Kind.CONTENT:
            self._content = frame.payload.decode()
        elif frame.kind is Kind.PASSAGES:
            self._passages += [
                Passage(
                    int(values["start"]),
                    int(values["end"]),
                    tuple(str(heading) for heading in values["heading_path"]),
                    int(values["page"]),
                )
                for values in json.loads(frame.payload)
            ]
        elif frame.kind is Kind.END:
            return ReadDocument(
                DocumentType(self._about["document_type"]),
                str(self._about["title"]),
                bool(self._about["titled"]),
                self._content,
                tuple(self._passages),
            )
        return None
