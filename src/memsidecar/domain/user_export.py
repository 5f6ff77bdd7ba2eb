"""Taking along: everything held about a user as JSON Lines, and back in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from memsidecar.domain.audit import NewAuditEvent
from memsidecar.domain.caller import Right
from memsidecar.domain.errors import FieldViolation, InvalidInput, PermissionDenied
from memsidecar.domain.export_format import end_line, header_line, read_line
from memsidecar.domain.user_import import Imported, ImportStore, UserImport, lines_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.embedding import Embedder
    from memsidecar.domain.export_format import ExportLine
    from memsidecar.domain.storage_quota import StorageQuota

PIECE_BYTES = 262_144
"""Bytes of an export in one message, at least; at most four times that."""
_KINDS = ("turn", "memory_revision", "archived_passage", "document", "ingestion")


class ExportStore(ImportStore, Protocol):
    """Where exports are read from, and imports go."""

    async def subject_digest(self, tenant_id: UUID, user_id: str, *, deadline: float | None) -> str:
        """Give the name of a user in the audit trail."""
        ...

    def read(
        self, kind: str, tenant_id: UUID, user_id: str, *, with_vectors: bool
    ) -> AsyncIterator[tuple[str, str]]:
        """Give the lines of one kind, each with the kind it says; documents come with their chunks."""
        ...

    async def record(self, event: NewAuditEvent, *, deadline: float | None) -> None:
        """Record an act in the audit trail."""
        ...


class UserExports:
    """Exports and imports users for callers."""

    def __init__(
        self, store: ExportStore, embedder: Embedder, storage_quota: StorageQuota | None = None
    ) -> None:
        self._store = store
        self._storage_quota = storage_quota
        self._embedder = embedder

    async def export(self, caller: Caller, user_id: str, *, include_vectors: bool) -> AsyncIterator[bytes]:
        """Stream everything held about a user, and what the user said in the memory of others.

        Read in short transactions: what is written meanwhile may or may not be in it.

        Raises:
            PermissionDenied: The credential lacks ``admin``, or is limited to agents.
        """
        tenant_id = _whole_tenant(caller)
        await self._record(caller, tenant_id, "user.export", user_id, {"vectors": include_vectors})
        pending = bytearray(
            header_line(user_id, model_sha256=self._embedder.model.sha256, with_vectors=include_vectors)
        )
        counts: dict[str, int] = {}
        for wanted in _KINDS:
            async for kind, line in self._store.read(
                wanted, tenant_id, user_id, with_vectors=include_vectors
            ):
                counts[kind] = counts.get(kind, 0) + 1
                pending += line.encode() + b"\n"
                while len(pending) >= PIECE_BYTES:
                    yield bytes(pending[: 4 * PIECE_BYTES])
                    del pending[: 4 * PIECE_BYTES]
        yield bytes(pending) + end_line(counts)

    async def import_lines(self, caller: Caller, pieces: AsyncIterator[bytes]) -> Imported:
        """Take an export in. What is there already stays as it is, so that a repetition is safe.

        Lines before a bad one stay taken in.

        Raises:
            PermissionDenied: The credential lacks ``admin``, or is limited to agents.
            InvalidInput: A line is not one of an export; no line from there on was taken in.
            QuotaExceeded: The tenant may not store so much; lines before that stay taken in.
        """
        importing = UserImport(_whole_tenant(caller), self._store, self._embedder)
        number = 0
        async for line in lines_of(pieces):
            number += 1
            checked = read_line(number, line, model_sha256=self._embedder.model.sha256)
            if number == 1:
                await self._begin(caller, checked)
            await self._make_room(caller, checked)
            await importing.take(checked, number)
        await importing.finish()
        return importing.imported

    async def _make_room(self, caller: Caller, line: ExportLine) -> None:
        if self._storage_quota is None:
            return
        if line.kind == "turn":
            await self._storage_quota.add_turns(caller, len(line.values["rows"]))
        elif line.kind == "document":
            await self._storage_quota.add_document_bytes(caller, len(line.values["content"].encode()))

    async def _begin(self, caller: Caller, first: ExportLine) -> None:
        if first.kind != "export":
            raise InvalidInput(
                [FieldViolation("lines[1].kind", "is not export: send an export from its first line")]
            )
        await self._record(caller, caller.tenant(Right.ADMIN), "user.import", first.values["user_id"], {})

    async def _record(
        self, caller: Caller, tenant_id: UUID, action: str, user_id: str, details: dict[str, Any]
    ) -> None:
        digest = await self._store.subject_digest(tenant_id, user_id, deadline=caller.deadline)
        event = NewAuditEvent(tenant_id, caller.name, action, digest, details)
        await self._store.record(event, deadline=caller.deadline)


def _whole_tenant(caller: Caller) -> UUID:
    tenant_id = caller.tenant(Right.ADMIN)
    if caller.agent_ids:
        raise PermissionDenied("exports and imports need a credential that covers all agents")
    return tenant_id
