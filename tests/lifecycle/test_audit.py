"""The trail of administrative acts: what is recorded, who sees it, and that no change of it goes unnoticed."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from memsidecar.domain.audit import AuditTrail, NewAuditEvent
from memsidecar.domain.caller import TENANT_RIGHTS, Caller, Right
from memsidecar.domain.errors import AlreadyExists, PermissionDenied
from memsidecar.domain.tenants import TenantDirectory, TenantSettings
from memsidecar.domain.tokens import TokenRegistry
from memsidecar.postgres.audit_store import PostgresAuditStore
from memsidecar.postgres.tenant_store import PostgresTenantStore
from memsidecar.postgres.token_store import PostgresTokenStore

if TYPE_CHECKING:
    from uuid import UUID

    from memsidecar.postgres.database import Database
    from tests.conftest import TestDatabase

OPERATOR = Caller(name="the operator", rights=frozenset({Right.OPERATOR}), tenant_id=None)


@pytest.fixture
def audit(database: Database) -> AuditTrail:
    return AuditTrail(PostgresAuditStore(database))


@pytest.fixture
def directory(database: Database) -> TenantDirectory:
    return TenantDirectory(PostgresTenantStore(database))


@pytest.fixture
def registry(database: Database) -> TokenRegistry:
    return TokenRegistry(PostgresTokenStore(database))


async def actions(audit: AuditTrail, caller: Caller) -> list[tuple[str, str]]:
    page = await audit.list_events(caller, before=None, limit=100)
    return [(event.actor, event.action) for event in page.items]


async def record(database: Database, trail: UUID, *numbers: int) -> None:
    store = PostgresAuditStore(database)
    for number in numbers:
        await store.record(
            NewAuditEvent(trail, "tester", "thing.do", f"subject {number}", {"ünïcode": "日本 \n"}),
            deadline=None,
        )


async def test_acts_on_tenants_are_seen_by_the_tenant_and_by_operators(
    audit: AuditTrail, directory: TenantDirectory
) -> None:
    tenant = await directory.create(OPERATOR, "shop", TenantSettings(), None)
    await directory.update(
        OPERATOR, tenant.tenant_id, {"language": "german", "retention": {"turns": timedelta(days=30)}}
    )
    admin = Caller(name="admin of shop", rights=TENANT_RIGHTS, tenant_id=tenant.tenant_id)
    for reader in (admin, OPERATOR):
        page = await audit.list_events(reader, before=None, limit=100)
        assert [(event.sequence, event.actor, event.action) for event in page.items] == [
            (2, "the operator", "tenant.update"),
            (1, "the operator", "tenant.create"),
        ]
        assert json.loads(page.items[0].details_json) == {
            "language": "german",
            "retention.turns": "30 days, 0:00:00",
        }
        assert page.items[0].subject == str(tenant.tenant_id)


async def test_acts_on_tokens_are_recorded_without_their_secret(
    audit: AuditTrail, registry: TokenRegistry, caller: Caller
) -> None:
    token, secret = await registry.create(
        caller,
        tenant_id=None,
        name="bot",
        rights=frozenset({Right.APPEND}),
        agent_ids=frozenset(),
        lifetime=None,
    )
    successor, _secret = await registry.rotate(caller, token.token_id, timedelta(hours=1))
    await registry.revoke(caller, successor.token_id)
    page = await audit.list_events(caller, before=None, limit=100)
    assert [(event.action, event.subject) for event in page.items] == [
        ("token.revoke", str(successor.token_id)),
        ("token.create", str(successor.token_id)),
        ("token.rotate", str(token.token_id)),
        ("token.create", str(token.token_id)),
    ]
    assert not any(secret in event.details_json for event in page.items)
    assert json.loads(page.items[3].details_json) == {"name": "bot", "rights": ["append"]}


async def test_an_operator_token_is_recorded_for_the_deployment(
    audit: AuditTrail, registry: TokenRegistry
) -> None:
    await registry.create(
        OPERATOR,
        tenant_id=None,
        name="second operator",
        rights=frozenset({Right.OPERATOR}),
        agent_ids=frozenset(),
        lifetime=None,
    )
    assert await actions(audit, OPERATOR) == [("the operator", "token.create")]


async def test_an_act_that_fails_leaves_no_trace(audit: AuditTrail, directory: TenantDirectory) -> None:
    await directory.create(OPERATOR, "shop", TenantSettings(), None)
    with pytest.raises(AlreadyExists):
        await directory.create(OPERATOR, "shop", TenantSettings(), None)
    assert await actions(audit, OPERATOR) == [("the operator", "tenant.create")]


async def test_a_trail_is_seen_by_its_own_administrators_alone(
    audit: AuditTrail, database: Database, caller: Caller, directory: TenantDirectory
) -> None:
    assert caller.tenant_id is not None
    await record(database, caller.tenant_id, 1)
    other = await directory.create(OPERATOR, "other", TenantSettings(), None)
    assert await actions(audit, replace(caller, tenant_id=other.tenant_id)) == [
        ("the operator", "tenant.create")
    ]
    with pytest.raises(PermissionDenied):
        await audit.list_events(replace(caller, rights=TENANT_RIGHTS - {Right.ADMIN}), before=None, limit=1)
    with pytest.raises(PermissionDenied):
        await audit.verify(Caller(name="nobody", rights=frozenset(), tenant_id=None))


async def test_pages_go_back_to_the_beginning(audit: AuditTrail, database: Database, caller: Caller) -> None:
    assert caller.tenant_id is not None
    await record(database, caller.tenant_id, *range(1, 8))
    first = await audit.list_events(caller, before=None, limit=5)
    assert first.next_position is not None
    second = await audit.list_events(caller, before=first.next_position[0], limit=5)
    assert [event.subject for event in [*first.items, *second.items]] == [
        f"subject {number}" for number in range(7, 0, -1)
    ]
    assert second.next_position is None


async def test_events_of_the_same_moment_make_one_chain(
    audit: AuditTrail, database: Database, caller: Caller
) -> None:
    assert caller.tenant_id is not None
    await asyncio.gather(*(record(database, caller.tenant_id, number) for number in range(40)))
    verdict = await audit.verify(caller)
    assert (verdict.events, verdict.intact) == (40, True)
    page = await audit.list_events(caller, before=None, limit=1)
    assert verdict.head_digest == page.items[0].digest


async def test_an_empty_trail_is_intact(audit: AuditTrail, caller: Caller) -> None:
    verdict = await audit.verify(caller)
    assert (verdict.events, verdict.intact, verdict.head_digest) == (0, True, b"")


@pytest.mark.parametrize(
    "forgery",
    [
        "UPDATE audit_events SET details = '{}' WHERE sequence = 3",
        "UPDATE audit_events SET actor = 'somebody else' WHERE sequence = 3",
        "UPDATE audit_events SET occurred_at = occurred_at - interval '1 microsecond' WHERE sequence = 3",
        "UPDATE audit_events SET subject = 'subject 2', details = details || ' ' WHERE sequence = 3",
        "DELETE FROM audit_events WHERE sequence = 3",
        "UPDATE audit_events SET sequence = sequence + 100 WHERE sequence = 3",
        "UPDATE audit_events a SET subject = b.subject FROM audit_events b WHERE a.sequence = 3 AND b.sequence = 4",
    ],
)
async def test_whoever_gets_past_the_trigger_is_still_found_out(
    audit: AuditTrail, database: Database, caller: Caller, test_database: TestDatabase, forgery: str
) -> None:
    assert caller.tenant_id is not None
    await record(database, caller.tenant_id, *range(1, 6))
    superuser = await asyncpg.connect(test_database.superuser_url)
    await superuser.execute("SET session_replication_role = replica")
    await superuser.execute(forgery)
    await superuser.close()
    verdict = await audit.verify(caller)
    assert not verdict.intact
    assert (verdict.events, verdict.first_broken_sequence) == (2, 3)


async def test_a_forged_digest_breaks_the_next_event(
    audit: AuditTrail, database: Database, caller: Caller, test_database: TestDatabase
) -> None:
    """Whoever computes a fitting digest for a changed event has to change every later one, and the head."""
    assert caller.tenant_id is not None
    await record(database, caller.tenant_id, *range(1, 6))
    head = (await audit.verify(caller)).head_digest
    superuser = await asyncpg.connect(test_database.superuser_url)
    await superuser.execute("SET session_replication_role = replica")
    await superuser.execute(
        "UPDATE audit_events e SET actor = 'forger', digest = audit_digest((SELECT digest FROM audit_events"
        " WHERE sequence = 2), tenant_id, sequence, occurred_at, 'forger', action, subject, details)"
        " WHERE sequence = 3"
    )
    assert (await audit.verify(caller)).first_broken_sequence == 4
    await superuser.execute("DELETE FROM audit_events WHERE sequence > 3")
    verdict = await audit.verify(caller)
    assert verdict.intact
    assert verdict.head_digest != head
    await superuser.close()


@pytest.mark.parametrize("role", ["app", "owner"])
@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_events SET actor = 'x'", "DELETE FROM audit_events", "TRUNCATE audit_events"],
)
async def test_the_trail_is_append_only(
    database: Database, caller: Caller, test_database: TestDatabase, role: str, statement: str
) -> None:
    assert caller.tenant_id is not None
    await record(database, caller.tenant_id, 1)
    url = {"app": test_database.app_url, "owner": test_database.owner_url}[role]
    connection = await asyncpg.connect(url)
    await connection.execute(f"SET app.current_tenant = '{caller.tenant_id}'")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement)
    await connection.close()


async def test_the_app_role_cannot_write_events_past_the_function(
    caller: Caller, test_database: TestDatabase
) -> None:
    connection = await asyncpg.connect(test_database.app_url)
    await connection.execute(f"SET app.current_tenant = '{caller.tenant_id}'")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(
            "INSERT INTO audit_events VALUES ($1, 1, now(), 'a', 'b', 'c', '{}', sha256(''))",
            caller.tenant_id,
        )
    await connection.close()
