"""Administration between messages and the domain: what comes in is checked, what goes out is built."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration

from memsidecar.domain.caller import Right
from memsidecar.domain.quotas import Quota
from memsidecar.domain.tenants import MemoryOverflow, Retention, TenantSettings
from memsidecar.rpc.messages import timestamp
from memsidecar.v1 import administration_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memsidecar.domain.tenants import Tenant
    from memsidecar.domain.tokens import Token
    from memsidecar.rpc.validation import Violations

_RIGHTS = {
    pb.RIGHT_APPEND: Right.APPEND,
    pb.RIGHT_RECALL: Right.RECALL,
    pb.RIGHT_DOCUMENTS: Right.DOCUMENTS,
    pb.RIGHT_ADMIN: Right.ADMIN,
    pb.RIGHT_OPERATOR: Right.OPERATOR,
}
_RIGHT_VALUES = {right: value for value, right in _RIGHTS.items()}
_OVERFLOWS = {
    pb.MEMORY_OVERFLOW_REFUSE: MemoryOverflow.REFUSE,
    pb.MEMORY_OVERFLOW_ARCHIVE: MemoryOverflow.ARCHIVE,
}
_OVERFLOW_VALUES = {overflow: value for value, overflow in _OVERFLOWS.items()}
_TENANT_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
_RETENTION_FIELDS = ("turns", "documents", "jobs", "memory_revisions")
_QUOTA_FIELDS = ("max_turns", "max_document_bytes", "calls_per_second")
_MASK_PATHS = frozenset(
    ["language", "memory_overflow", "retention", "quota"]
    + [f"retention.{name}" for name in _RETENTION_FIELDS]
    + [f"quota.{name}" for name in _QUOTA_FIELDS]
)
_SHORTEST = timedelta(seconds=1)
_LONGEST = timedelta(days=36_525)
_MOST = {"max_turns": 2**62, "max_document_bytes": 2**62, "calls_per_second": 1_000_000}


def read_rights(violations: Violations, values: Iterable[int]) -> frozenset[Right]:
    """Check the rights of a token: at least one."""
    values = list(values)
    violations.count("rights", len(values), least=1, most=len(_RIGHTS))
    rights = [violations.choice(f"rights[{index}]", value, _RIGHTS) for index, value in enumerate(values)]
    return frozenset(right for right in rights if right is not None)


def right_values(rights: Iterable[Right]) -> list[Any]:
    """Give rights as enum values, in a stable order."""
    return sorted(_RIGHT_VALUES[right] for right in rights)


def read_tenant_name(violations: Violations, field: str, name: str) -> str:
    """Check the name of a tenant."""
    if not _TENANT_NAME.fullmatch(name):
        violations.add(
            field, "must be 1 to 64 of a-z, 0-9 and -, starting with a letter, for example acme-support"
        )
    return name


def read_tenant_settings(
    violations: Violations, message: pb.Tenant, languages: frozenset[str]
) -> TenantSettings:
    """Check the settings of a new tenant."""
    return TenantSettings(
        language=_read_language(violations, message.language or "english", languages),
        retention=Retention(
            **{name: _read_retention(violations, message, name) for name in _RETENTION_FIELDS}
        ),
        quota=Quota(**{name: _read_quota(violations, message, name) for name in _QUOTA_FIELDS}),
        memory_overflow=_read_overflow(violations, message),
    )


def read_tenant_changes(
    violations: Violations, request: pb.UpdateTenantRequest, languages: frozenset[str]
) -> dict[str, Any]:
    """Check what an update changes, and give it as ``TenantDirectory.update`` takes it."""
    paths = list(request.update_mask.paths)
    if not paths:
        violations.add("update_mask", "is required: name the fields to change, for example retention.turns")
    changes: dict[str, Any] = {}
    for path in paths:
        if path not in _MASK_PATHS:
            violations.add(
                "update_mask", f"cannot change {path!r}: give any of {', '.join(sorted(_MASK_PATHS))}"
            )
            continue
        if path == "language":
            changes["language"] = _read_language(violations, request.tenant.language, languages)
        elif path == "memory_overflow":
            changes["memory_overflow"] = _read_overflow(violations, request.tenant)
        else:
            part, _, name = path.partition(".")
            names = (name,) if name else (_RETENTION_FIELDS if part == "retention" else _QUOTA_FIELDS)
            read = _read_retention if part == "retention" else _read_quota
            changes.setdefault(part, {}).update(
                {each: read(violations, request.tenant, each) for each in names}
            )
    return changes


def _read_language(violations: Violations, language: str, languages: frozenset[str]) -> str:
    if language not in languages:
        violations.add(
            "tenant.language", f"is not a known language: give one of {', '.join(sorted(languages))}"
        )
    return language


def _read_retention(violations: Violations, message: pb.Tenant, name: str) -> timedelta | None:
    value = {descriptor.name: given for descriptor, given in message.retention.ListFields()}.get(name)
    return violations.duration(f"tenant.retention.{name}", value, least=_SHORTEST, most=_LONGEST)


def _read_quota(violations: Violations, message: pb.Tenant, name: str) -> int:
    value: int = getattr(message.quota, name)
    return violations.integer(f"tenant.quota.{name}", value, least=0, most=_MOST[name])


def _read_overflow(violations: Violations, message: pb.Tenant) -> MemoryOverflow:
    chosen = violations.choice(
        "tenant.memory_overflow", message.memory_overflow, _OVERFLOWS, default=MemoryOverflow.REFUSE
    )
    return chosen or MemoryOverflow.REFUSE


def tenant_message(tenant: Tenant) -> pb.Tenant:
    """Build the message of a tenant."""
    settings = tenant.settings
    return pb.Tenant(
        tenant_id=str(tenant.tenant_id),
        name=tenant.name,
        language=settings.language,
        retention=pb.Retention(
            **{name: _duration(getattr(settings.retention, name)) for name in _RETENTION_FIELDS}
        ),
        quota=pb.Quota(**{name: getattr(settings.quota, name) for name in _QUOTA_FIELDS}),
        memory_overflow=_OVERFLOW_VALUES[settings.memory_overflow],
        created_at=timestamp(tenant.created_at),
    )


def token_message(token: Token) -> pb.Token:
    """Build the message of a token, never with its secret."""
    return pb.Token(
        token_id=str(token.token_id),
        tenant_id="" if token.tenant_id is None else str(token.tenant_id),
        name=token.name,
        rights=right_values(token.rights),
        agent_ids=sorted(str(agent_id) for agent_id in token.agent_ids),
        created_at=timestamp(token.created_at),
        expires_at=timestamp(token.expires_at),
        revoked_at=timestamp(token.revoked_at),
    )


def _duration(value: timedelta | None) -> Duration | None:
    if value is None:
        return None
    message = Duration()
    message.FromTimedelta(value)
    return message
