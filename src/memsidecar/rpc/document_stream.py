"""Puts the parts of an IngestDocuments stream together and checks them as they arrive."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from memsidecar.domain.limits import MAX_DOCUMENT_BYTES, MAX_JOB_BYTES, MAX_JOB_DOCUMENTS
from memsidecar.rpc.document_messages import read_new_document, wrong_size
from memsidecar.rpc.validation import Violations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from memsidecar.domain.ingestion import NewDocument
    from memsidecar.v1 import documents_pb2 as pb


class DocumentStream:
    """The documents of one stream, held one at a time.

    A document that is empty or too large fails alone, as one that cannot be read does; everything else that is wrong
    refuses the stream.
    """

    def __init__(self, parts: AsyncIterator[pb.IngestDocumentsRequest]) -> None:
        self._parts = parts
        self._first: pb.IngestDocumentsRequest | None = None
        self._keys: set[tuple[str, str]] = set()
        self._bytes = 0

    async def request_id(self) -> str:
        """Read the first part and give the request id in it; empty when there is none.

        Raises:
            InvalidInput: There is no first part, or its request id is too long.
        """
        violations = Violations()
        self._first = await anext(self._parts, None)
        if self._first is None:
            violations.add("part", "is missing: start with a document")
        request_id = self._first.request_id if self._first is not None else ""
        violations.identifier("request_id", request_id, required=False)
        violations.raise_if_any()
        return request_id

    async def documents(self) -> AsyncIterator[NewDocument]:
        """Give each document once it is complete.

        Raises:
            InvalidInput: A part or a document is not right.
        """
        arriving: _ArrivingDocument | None = None
        part = self._first
        while part is not None:
            if part.WhichOneof("part") == "document":
                if arriving is not None:
                    yield self._complete(arriving)
                arriving = _ArrivingDocument(part.document)
            else:
                self._check_more(part, arriving)
                if arriving is not None:
                    arriving.add(part.content)
            part = await anext(self._parts, None)
        if arriving is not None:
            yield self._complete(arriving)

    def _check_more(self, part: pb.IngestDocumentsRequest, arriving: _ArrivingDocument | None) -> None:
        violations = Violations()
        if part.WhichOneof("part") is None:
            violations.add("part", "is empty: send a document, or more content of the last one")
        elif arriving is None:
            violations.add("part", "is content without a document: start with a document")
        violations.raise_if_any()

    def _complete(self, arriving: _ArrivingDocument) -> NewDocument:
        violations = Violations()
        field = f"documents[{len(self._keys)}]"
        document = arriving.finished(violations, field)
        identity = (document.user_id, document.document_key)
        if identity in self._keys:
            violations.add(
                f"{field}.document_key", "came before in this stream: send it once, or in another job"
            )
        self._keys.add(identity)
        if len(self._keys) > MAX_JOB_DOCUMENTS:
            violations.add(field, f"is one too many: a job holds at most {MAX_JOB_DOCUMENTS:,} documents")
        self._bytes += len(document.raw)
        if self._bytes > MAX_JOB_BYTES:
            violations.add(field, f"makes the job larger than {MAX_JOB_BYTES:,} bytes: send several jobs")
        violations.raise_if_any()
        return document


class _ArrivingDocument:
    """A document whose content comes in parts; of one that is too large nothing is kept."""

    def __init__(self, message: pb.NewDocument) -> None:
        self._content = bytearray()
        self._size = 0
        self.add(message.content)
        message.content = b""
        self._message = message

    def add(self, content: bytes) -> None:
        self._size += len(content)
        if self._size <= MAX_DOCUMENT_BYTES:
            self._content += content
        else:
            self._content.clear()

    def finished(self, violations: Violations, field: str) -> NewDocument:
        document = read_new_document(violations, field, self._message, bytes(self._content))
        problem = wrong_size(self._size, MAX_DOCUMENT_BYTES)
        return replace(document, refusal=f"it {problem}") if problem else document
