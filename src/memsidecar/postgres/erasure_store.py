"""Erasures in Postgres, as they are asked for and read. Implements ``domain.erasure.ErasureStore``."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from typing import TYPE_CHECKING
from uuid import UUID

from memsidecar.domain.audit import DEPLOYMENT_TRAIL, NewAuditEvent
from memsidecar.domain.erasure import Erasure, ErasureStatus, Subject, SubjectKind
from memsidecar.domain.errors import FieldViolation, InvalidInput, NotFound, RequestContentDiffers
from memsidecar.domain.identifiers import new_uuid7
from memsidecar.postgres.audit_store import record_audit_events
from memsidecar.postgres.locks import erasures_lock
from memsidecar.postgres.queries import load_queries

if TYPE_CHECKING:
    import asyncpg

    from memsidecar.domain.erasure import ErasureRequest
    from memsidecar.postgres.database import Connection, Database

_QUERIES = load_queries("erasure")
_KEY_BYTES = 32


class PostgresErasureStore:
    """Keeps erasures in ``erasures``."""

    def __init__(self, database: Database) -> None:
        """Set up on the eraser's database, or on the app role's to read alone."""
        self._database = database

    async def find(
        self, erasure_id: UUID, *, tenant_id: UUID | None, deadline: float | None
    ) -> Erasure | None:
        """Read an erasure; see the port."""
        async with self._database.control(deadline=deadline) as connection:
            row = await connection.fetchrow(
                _QUERIES["find_erasure"], erasure_id, tenant_id, tenant_id is None
            )
        return None if row is None else _erasure(row)

    async def request(
        self, request: ErasureRequest, confirm_name: str | None, *, deadline: float | None
    ) -> Erasure:
        """Record what is to be erased; see the port."""
        tenant_id, subject = request.tenant_id, request.subject
        async with self._database.tenant(
            tenant_id, deadline=deadline, locks=[erasures_lock(tenant_id)]
        ) as connection:
            if subject.kind is SubjectKind.TENANT:
                known = await _known_tenant_erasure(connection, request, confirm_name)
                if known is not None:
                    return known
            key = await tenant_key(connection, tenant_id)
            digest = subject.digest(key)
            request_digest = _request_digest(key, request.request_id)
            row = await connection.fetchrow(
                _QUERIES["known_erasure"], tenant_id, subject.kind.value, digest, request_digest
            )
            if row is not None:
                return await _known(connection, row, digest)
            row = await connection.fetchrow(
                _QUERIES["request_erasure"],
                tenant_id,
                new_uuid7(),
                subject.kind.value,
                subject_json(subject),
                digest,
                request_digest,
                request.requested_by,
                request.reason,
            )
            erasure = _erasure(row)
            await record_audit_events(
                connection,
                [erasure_event(erasure, f"{subject.kind.value}.erase", {"reason": request.reason})],
            )
        return erasure


async def tenant_key(connection: Connection, tenant_id: UUID) -> bytes:
    """Give the key under which subjects of a tenant are named, and make it the first time.

    Raises:
        NotFound: The tenant does not exist.
    """
    key = await connection.fetchval(_QUERIES["read_key"], tenant_id)
    if key is None:
        await connection.execute(_QUERIES["make_key"], tenant_id, secrets.token_bytes(_KEY_BYTES))
        key = await connection.fetchval(_QUERIES["read_key"], tenant_id)
    if key is None:
        raise NotFound("there is no such tenant")
    return bytes(key)


def erasure_event(erasure: Erasure, action: str, details: dict[str, object]) -> NewAuditEvent:
    """Tell the audit trail about an erasure: the tenant's own, or the deployment's where the tenant goes."""
    of_tenant = erasure.kind is SubjectKind.TENANT
    return NewAuditEvent(
        DEPLOYMENT_TRAIL if of_tenant else erasure.tenant_id,
        erasure.requested_by,
        action,
        str(erasure.tenant_id) if of_tenant else erasure.subject_digest,
        {"erasure_id": str(erasure.erasure_id), **details},
    )


def subject_json(subject: Subject) -> str:
    """Write a subject down for as long as the erasure goes on."""
    return json.dumps(
        {
            "user_id": subject.user_id,
            "conversation_id": subject.conversation_id,
            "agent_id": None if subject.agent_id is None else str(subject.agent_id),
        }
    )


def subject_from_row(row: asyncpg.Record) -> Subject:
    """Read a subject back."""
    values = json.loads(row["subject"])
    return Subject(
        SubjectKind(row["kind"]),
        values["user_id"],
        values["conversation_id"],
        None if values["agent_id"] is None else UUID(values["agent_id"]),
    )


async def _known_tenant_erasure(
    connection: Connection, request: ErasureRequest, confirm_name: str | None
) -> Erasure | None:
    """Find the erasure of a tenant, of which there is only one, or check that it may be asked for."""
    row = await connection.fetchrow(
        _QUERIES["known_erasure"], request.tenant_id, request.subject.kind.value, None, None
    )
    if row is not None:
        return await _known(connection, row, row["subject_digest"])
    name = await connection.fetchval(_QUERIES["read_tenant_name"], request.tenant_id)
    if name is None:
        raise NotFound("there is no such tenant")
    if name != confirm_name:
        raise InvalidInput([FieldViolation("confirm_name", "is not the name of this tenant: give its name")])
    return None


async def _known(connection: Connection, row: asyncpg.Record, digest: str) -> Erasure:
    if row["subject_digest"] != digest:
        raise RequestContentDiffers
    resumed = await connection.fetchrow(_QUERIES["resume_erasure"], row["tenant_id"], row["id"])
    return _erasure(resumed or row)


def _request_digest(key: bytes, request_id: str) -> str | None:
    """Hide the request id, which a client may have made of a user id."""
    if not request_id:
        return None
    message = f"request\x00{request_id}".encode("utf-8", "surrogatepass")
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def _erasure(row: asyncpg.Record) -> Erasure:
    return Erasure(
        erasure_id=UUID(int=row["id"].int),
        tenant_id=UUID(int=row["tenant_id"].int),
        kind=SubjectKind(row["kind"]),
        status=ErasureStatus(row["status"]),
        subject_digest=row["subject_digest"],
        requested_by=row["requested_by"],
        reason=row["reason"],
        requested_at=row["requested_at"],
        completed_at=row["completed_at"],
        vacuumed_at=row["vacuumed_at"],
        erased=json.loads(row["erased"]),
        remaining_rows=row["remaining_rows"],
        error=row["error"],
    )
