"""Puts the parts of an IngestDocuments stream together and checks them as they arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memsidecar.domain.limits import (
    MAX_DOCUMENT_BYTES,
    MAX_JOB_BYTES,
    MAX_JOB_DOCUMENTS,
    MAX_UNARY_DOCUMENT_BYTES,
)
from memsidecar.rpc.document_messages import read_new_document, too_large
from memsidecar.rpc.validation import Violations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from memsidecar.domain.ingestion import NewDocument
    from memsidecar.v1 import documents_pb2 as pb


class DocumentStream:
    """The documents of one stream, held one at a time."""

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
        message: pb.NewDocument | None = None
        content = bytearray()
        part = self._first
        while part is not None:
            if part.WhichOneof("part") == "document":
                if message is not None:
                    yield self._checked(message, bytes(content))
                message, content = part.document, bytearray(part.document.content)
                message.content = b""
            else:
                self._check_more(part, message)
                content += part.content
            self._check_size(len(content))
            part = await anext(self._parts, None)
        if message is not None:
            yield self._checked(message, bytes(content))

    def _check_more(self, part: pb.IngestDocumentsRequest, message: pb.NewDocument | None) -> None:
        violations = Violations()
        if part.WhichOneof("part") is None:
            violations.add("part", "is empty: send a document, or more content of the last one")
        elif message is None:
            violations.add("part", "is content without a document: start with a document")
        elif len(part.content) > MAX_UNARY_DOCUMENT_BYTES:
            violations.add("content", f"has {len(part.content):,} bytes: send smaller parts")
        violations.raise_if_any()

    def _check_size(self, size: int) -> None:
        violations = Violations()
        field = f"documents[{len(self._keys)}].content"
        if size > MAX_DOCUMENT_BYTES:
            violations.add(field, too_large(size, MAX_DOCUMENT_BYTES))
        if self._bytes + size > MAX_JOB_BYTES:
            violations.add(field, f"makes the job larger than {MAX_JOB_BYTES:,} bytes: send several jobs")
        violations.raise_if_any()

    def _checked(self, message: pb.NewDocument, raw: bytes) -> NewDocument:
        violations = Violations()
        field = f"documents[{len(self._keys)}]"
        document = read_new_document(violations, field, message, raw, MAX_DOCUMENT_BYTES)
        identity = (document.user_id, document.document_key)
        if identity in self._keys:
            violations.add(
                f"{field}.document_key", "came before in this stream: send it once, or in another job"
            )
        self._keys.add(identity)
        self._bytes += len(raw)
        if len(self._keys) > MAX_JOB_DOCUMENTS:
            violations.add(field, f"is one too many: a job holds at most {MAX_JOB_DOCUMENTS:,} documents")
        violations.raise_if_any()
        return document
