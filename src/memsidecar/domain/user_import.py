"""Takes the lines of an export in: turns in batches, documents with all their chunks, memories revision by revision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from memsidecar.domain.chunking import context_of, embedded_text
from memsidecar.domain.embedding import NO_EMBEDDING, Lane
from memsidecar.domain.errors import FieldViolation, InvalidInput
from memsidecar.domain.export_format import MAX_LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from uuid import UUID

    from memsidecar.domain.embedding import Embedder, Embedding
    from memsidecar.domain.export_format import ExportLine

_TURNS_AT_ONCE = 64
_TEXTS_AT_ONCE = 64


@dataclass(slots=True)
class Imported:
    """What an import took in."""

    turns: int = 0
    memory_revisions: int = 0
    documents: int = 0
    repeated: int = 0
    """Turns, revisions, passages and documents that were there already, and stayed as they are."""


class ImportStore(Protocol):
    """Where imports go."""

    async def import_turns(
        self,
        tenant_id: UUID,
        turns: Sequence[Sequence[Mapping[str, Any]]],
        vectors: Sequence[Sequence[Embedding]],
    ) -> int:
        """Take in turns, each with all its rows, and say how many were there already."""
        ...

    async def import_revision(
        self, tenant_id: UUID, revision: Mapping[str, Any], *, following: bool
    ) -> bool | None:
        """Take in a revision, in the order of their numbers.

        Args:
            tenant_id: Into which tenant.
            revision: The revision.
            following: Whether the revision before it in the export was taken in or there already.

        Returns:
            True when it was taken in, False when just this one was there already, None when another memory of the user
            is there.
        """
        ...

    async def import_passage(self, tenant_id: UUID, passage: Mapping[str, Any], embedding: Embedding) -> bool:
        """Take in an archived passage; False when it was there already."""
        ...

    async def import_document(
        self,
        tenant_id: UUID,
        document: Mapping[str, Any],
        chunks: Sequence[Mapping[str, Any]],
        vectors: Sequence[Embedding],
    ) -> bool:
        """Take in a document with its chunks, in one step; False when one of its key was there already."""
        ...


class UserImport:
    """One import under way: lines wait until enough of them, or all of a document, are there."""

    def __init__(self, tenant_id: UUID, store: ImportStore, embedder: Embedder) -> None:
        self.imported = Imported()
        self._tenant_id = tenant_id
        self._store = store
        self._embedder = embedder
        self._turns: list[ExportLine] = []
        self._document: Mapping[str, Any] | None = None
        self._chunks: list[ExportLine] = []
        self._memory: tuple[str, str] | None = None
        self._following = True

    async def take(self, line: ExportLine, number: int) -> None:
        """Take one line."""
        if line.kind == "chunk":
            self._take_chunk(line, number)
            return
        await self._store_document(number)
        if line.kind == "turn":
            self._turns.append(line)
            if len(self._turns) >= _TURNS_AT_ONCE:
                await self._store_turns()
        elif line.kind == "memory_revision":
            await self._take_revision(line.values)
        elif line.kind == "archived_passage":
            await self._take_passage(line)
        elif line.kind == "document":
            self._document = line.values

    async def finish(self) -> None:
        """Take what is still waiting."""
        await self._store_turns()
        await self._store_document(None)

    async def _store_turns(self) -> None:
        turns, self._turns = self._turns, []
        if not turns:
            return
        missing = [
            row["content"]
            for turn in turns
            for row, vector in zip(turn.values["rows"], turn.vectors, strict=True)
            if vector is None and row["action"] != "deleted"
        ]
        made = iter(await self._embed(missing))
        vectors = [
            [
                NO_EMBEDDING if row["action"] == "deleted" else (vector or next(made))
                for row, vector in zip(turn.values["rows"], turn.vectors, strict=True)
            ]
            for turn in turns
        ]
        repeated = await self._store.import_turns(
            self._tenant_id, [turn.values["rows"] for turn in turns], vectors
        )
        self.imported.turns += len(turns) - repeated
        self.imported.repeated += repeated

    async def _take_revision(self, revision: Mapping[str, Any]) -> None:
        memory = (revision["user_id"], revision["agent_id"])
        if memory != self._memory:
            self._memory, self._following = memory, False
        taken = await self._store.import_revision(self._tenant_id, revision, following=self._following)
        self._following = taken is not None
        self.imported.memory_revisions += taken is True
        self.imported.repeated += taken is not True

    async def _take_passage(self, line: ExportLine) -> None:
        [vector] = line.vectors
        if vector is None:
            [vector] = await self._embed([line.values["passage"]])
        taken = await self._store.import_passage(self._tenant_id, line.values, vector)
        self.imported.repeated += not taken

    def _take_chunk(self, line: ExportLine, number: int) -> None:
        document, chunk = self._document, line.values
        if document is None or chunk["document_id"] != document["id"]:
            raise InvalidInput(
                [FieldViolation(f"lines[{number}].document_id", "is not of the document before it")]
            )
        if chunk["chunk_index"] != len(self._chunks) or chunk["end_char"] > len(document["content"]):
            raise InvalidInput(
                [
                    FieldViolation(
                        f"lines[{number}].chunk_index", "is out of order, or beyond the document's end"
                    )
                ]
            )
        if chunk["start_char"] >= chunk["end_char"]:
            raise InvalidInput([FieldViolation(f"lines[{number}].start_char", "is not before end_char")])
        self._chunks.append(line)

    async def _store_document(self, number: int | None) -> None:
        document, chunks = self._document, self._chunks
        self._document, self._chunks = None, []
        if document is None:
            return
        if len(chunks) != document["chunk_count"]:
            place = "lines" if number is None else f"lines[{number}]"
            raise InvalidInput(
                [FieldViolation(place, "does not follow all chunks of the document before it")]
            )
        content = document["content"]
        values = [
            {**chunk.values, "content": content[chunk.values["start_char"] : chunk.values["end_char"]]}
            for chunk in chunks
        ]
        vectors = [chunk.vectors[0] for chunk in chunks]
        missing = [index for index, vector in enumerate(vectors) if vector is None]
        made = await self._embed([self._chunk_text(document, values[index]) for index in missing])
        for index, embedding in zip(missing, made, strict=True):
            vectors[index] = embedding
        taken = await self._store.import_document(
            self._tenant_id, document, values, [vector for vector in vectors if vector is not None]
        )
        self.imported.documents += taken
        self.imported.repeated += not taken

    def _chunk_text(self, document: Mapping[str, Any], chunk: Mapping[str, Any]) -> str:
        title = "" if document["title"] == document["document_key"] else document["title"]
        context = context_of(title, chunk["heading_path"], self._embedder.token_offsets)
        return embedded_text(context, chunk["content"])

    async def _embed(self, texts: Sequence[str]) -> list[Embedding]:
        embedded: list[Embedding] = []
        for first in range(0, len(texts), _TEXTS_AT_ONCE):
            embedded += await self._embedder.embed(
                texts[first : first + _TEXTS_AT_ONCE], owner=self._tenant_id, lane=Lane.BACKGROUND
            )
        return embedded


async def lines_of(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Put lines together from pieces cut anywhere; blank lines are left out."""
    waiting: list[bytes] = []
    size = 0
    async for piece in pieces:
        *ends, rest = piece.split(b"\n")
        for end in ends:
            line = b"".join([*waiting, end])
            waiting, size = [], 0
            if line.strip():
                yield line
        waiting.append(rest)
        size += len(rest)
        if size > MAX_LINE_BYTES:
            raise InvalidInput([FieldViolation("lines", f"hold one of more than {MAX_LINE_BYTES:,} bytes")])
    if any(part.strip() for part in waiting):
        yield b"".join(waiting)
