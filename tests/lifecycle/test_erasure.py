"""Forgetting users, conversations and tenants: everything goes, nothing else does, and the receipt says so."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from memsidecar.domain.audit import AuditTrail
from memsidecar.domain.caller import TENANT_RIGHTS, Caller, Right
from memsidecar.domain.erasure import Erasures, ErasureStatus, Subject, SubjectKind
from memsidecar.domain.errors import (
    FailedPrecondition,
    InvalidInput,
    NotFound,
    PermissionDenied,
    RequestContentDiffers,
)
from memsidecar.domain.turns import Role, Speaker, TurnScope
from memsidecar.domain.user_memory import MemoryKey, MemoryWrite
from memsidecar.postgres.audit_store import PostgresAuditStore
from memsidecar.postgres.erasure_store import PostgresErasureStore
from tests.lifecycle.people import OTHER_AGENT, append, rows_by_table
from tests.lifecycle.turn_events import deleted, edited, event, said

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from memsidecar.domain.conversation_memory import ConversationMemory
    from memsidecar.domain.user_memory import UserMemories
    from memsidecar.postgres.database import Database

OPERATOR = Caller(name="the operator", rights=frozenset({Right.OPERATOR}), tenant_id=None)
TABLES_THAT_STAY = {"erasures", "audit_events", "digest_keys", "tenants", "api_tokens"}
"""Hold no user's data: receipts, acts, keys, credentials."""


async def test_a_user_is_forgotten_everywhere_and_nobody_else_is(
    erasures: Erasures, peopled: Caller, superuser: asyncpg.Connection
) -> None:
    of_bob = await rows_by_table(superuser, "user_id = 'bob'")
    erasure = await erasures.erase_user(peopled, "ann", reason="asked by mail", request_id="")
    assert (erasure.status, erasure.remaining_rows, erasure.error) == (ErasureStatus.COMPLETED, 0, "")
    assert await rows_by_table(superuser, "user_id = 'ann'") == {}
    assert await rows_by_table(superuser, "user_id = 'bob'") == of_bob
    assert erasure.erased == {**of_bob, "ingestion_jobs": 1}
    assert set(of_bob) == {
        "conversation_embeddings",
        "superseded_turns",
        "turn_speakers",
        "user_memories",
        "user_memory_revisions",
        "user_memory_archive",
        "documents",
        "document_chunks",
        "ingestion_job_documents",
    }
    assert await superuser.fetchval("SELECT count(*) FROM ingestion_jobs") == 1


async def test_every_table_that_holds_users_data_is_erased_from(
    erasures: Erasures, peopled: Caller, superuser: asyncpg.Connection
) -> None:
    """A table added later must be erased from too, or be named as one that holds no user's data."""
    filled = set(await rows_by_table(superuser, "tenant_id = $1", peopled.tenant_id))
    every = {
        row["name"]
        for row in await superuser.fetch(
            "SELECT c.relname::text AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace"
            " AND a.attname = 'tenant_id' AND NOT a.attisdropped"
        )
    }
    assert every - TABLES_THAT_STAY <= filled
    assert peopled.tenant_id is not None
    await erasures.erase_tenant(
        OPERATOR, peopled.tenant_id, confirm_name="acme", reason="contract ended", request_id=""
    )
    assert await rows_by_table(superuser, "tenant_id = $1", peopled.tenant_id) == {"erasures": 1}


async def test_the_receipt_holds_no_plain_name(
    erasures: Erasures, peopled: Caller, superuser: asyncpg.Connection, database: Database
) -> None:
    user_id = "ann"
    asked = await erasures.erase_user(peopled, user_id, reason="asked by mail", request_id="forget-ann-1")
    receipt = await erasures.get(peopled, asked.erasure_id)
    assert receipt.erased == asked.erased
    assert (receipt.requested_by, receipt.reason) == ("test", "asked by mail")
    assert receipt.completed_at is not None
    assert receipt.completed_at >= receipt.requested_at
    key = await superuser.fetchval("SELECT key FROM digest_keys")
    assert receipt.subject_digest == Subject(SubjectKind.USER, user_id).digest(key)
    stored = await superuser.fetchval("SELECT erasures::text FROM erasures")
    assert user_id not in stored
    page = await AuditTrail(PostgresAuditStore(database)).list_events(peopled, before=None, limit=10)
    assert [event.action for event in page.items] == ["user.erased", "user.erase"]
    assert {event.subject for event in page.items} == {receipt.subject_digest}
    assert not any("ann" in repr(event) for event in page.items)
    assert json.loads(page.items[0].details_json)["rows"] == receipt.erased


async def test_what_the_user_said_in_the_memory_of_others_goes_too(
    erasures: Erasures, caller: Caller, conversation_memory: ConversationMemory, superuser: asyncpg.Connection
) -> None:
    ann = Speaker("ann", "Ann")
    early = edited(
        "bob", "early", "before its original", seconds=5, target=event("late"), speaker=Speaker("x")
    )
    await append(conversation_memory, caller, early)
    await append(
        conversation_memory,
        caller,
        said("bob", speaker=Speaker("bob", "Bob")),
        said("bob", event=event("by-ann"), content="I am Ann", speaker=ann),
        edited("bob", "edit-of-ann", "I am Ann, really", seconds=5, target=event("by-ann")),
        said("bob", event=event("late"), content="Ann was here", speaker=ann),
        deleted("bob", seconds=9, event=None, target=event("late")),
        said("bob", event=event("machine"), role=Role.ASSISTANT, speaker=Speaker()),
    )
    erasure = await erasures.erase_user(caller, "ann", reason="", request_id="")
    assert erasure.erased == {"conversation_embeddings": 6, "superseded_turns": 5, "turn_speakers": 1}
    page = await conversation_memory.list_turns(caller, TurnScope(), newest_first=False, limit=10, after=None)
    assert sorted(turn.speaker.speaker_id for turn in page.items) == ["", "bob"]
    assert await superuser.fetchval("SELECT count(*) FROM conversation_embeddings") == 2


async def test_a_conversation_is_forgotten_with_all_that_happened_in_it(
    erasures: Erasures, peopled: Caller, superuser: asyncpg.Connection
) -> None:
    erasure = await erasures.erase_conversation(
        peopled, "lunch", agent_id=None, user_id="ann", reason="", request_id=""
    )
    assert erasure.status is ErasureStatus.COMPLETED
    assert erasure.erased == {"conversation_embeddings": 3, "superseded_turns": 1, "turn_speakers": 1}
    left = await superuser.fetch("SELECT user_id, conversation_id FROM conversation_embeddings")
    assert sorted(tuple(row) for row in left) == [
        *[("ann", "plans")] * 2,
        *[("bob", "lunch")] * 3,
        *[("bob", "plans")] * 2,
    ]
    for_all = await erasures.erase_conversation(
        peopled, "lunch", agent_id=OTHER_AGENT, user_id="", reason="", request_id=""
    )
    assert for_all.erased == {"conversation_embeddings": 1, "turn_speakers": 1}
    assert await superuser.fetchval("SELECT count(*) FROM user_memories") == 4


async def test_a_tenant_is_forgotten_but_for_its_receipt(
    erasures: Erasures,
    peopled: Caller,
    superuser: asyncpg.Connection,
    database: Database,
    new_tenant: Callable[..., Awaitable[UUID]],
    conversation_memory: ConversationMemory,
) -> None:
    other = replace(peopled, tenant_id=await new_tenant("other"))
    await append(conversation_memory, other, said("ann"))
    assert peopled.tenant_id is not None
    await erasures.erase_user(peopled, "bob", reason="", request_id="")
    with pytest.raises(InvalidInput) as refused:
        await erasures.erase_tenant(
            OPERATOR, peopled.tenant_id, confirm_name="other", reason="", request_id=""
        )
    assert [violation.field for violation in refused.value.violations] == ["confirm_name"]
    erasure = await erasures.erase_tenant(
        OPERATOR, peopled.tenant_id, confirm_name="acme", reason="contract ended", request_id="r-1"
    )
    assert erasure.status is ErasureStatus.COMPLETED
    assert await rows_by_table(superuser, "tenant_id = $1", peopled.tenant_id) == {"erasures": 1}
    assert await rows_by_table(superuser, "tenant_id = $1", other.tenant_id) == {
        "conversation_embeddings": 1,
        "tenants": 1,
        "turn_speakers": 1,
    }
    assert erasure.erased["tenants"] == 1
    assert erasure.erased["audit_events"] == 2
    again = await erasures.erase_tenant(
        OPERATOR, peopled.tenant_id, confirm_name="acme", reason="contract ended", request_id="r-1"
    )
    assert again.erasure_id == erasure.erasure_id
    assert (await erasures.get(OPERATOR, erasure.erasure_id)).erased == erasure.erased
    page = await AuditTrail(PostgresAuditStore(database)).list_events(OPERATOR, before=None, limit=10)
    assert [event.action for event in page.items] == ["tenant.erased", "tenant.erase"]
    details = json.loads(page.items[0].details_json)
    assert details["trail_events"] == 2
    assert len(details["trail_head"]) == 64
    with pytest.raises(NotFound):
        await conversation_memory.append(peopled, [said("ann")])


async def test_what_comes_back_is_kept(
    erasures: Erasures, peopled: Caller, conversation_memory: ConversationMemory, user_memories: UserMemories
) -> None:
    """Forgetting is not banning: a user who speaks again starts with an empty memory."""
    await erasures.erase_user(peopled, "ann", reason="", request_id="")
    await append(conversation_memory, peopled, said("ann"))
    written = await user_memories.upsert(peopled, MemoryKey("ann"), MemoryWrite(memory="likes tea"))
    assert written.memory.revision == 1
    again = await erasures.erase_user(peopled, "ann", reason="", request_id="")
    assert again.erased == {
        "conversation_embeddings": 1,
        "turn_speakers": 1,
        "user_memories": 1,
        "user_memory_revisions": 1,
    }


async def test_a_request_counts_once(requests: Erasures, peopled: Caller) -> None:
    first = await requests.erase_user(peopled, "ann", reason="", request_id="r-1")
    assert first.status is ErasureStatus.RUNNING
    for request_id in ("r-1", "", "another"):
        again = await requests.erase_user(peopled, "ann", reason="", request_id=request_id)
        assert again.erasure_id == first.erasure_id
    with pytest.raises(RequestContentDiffers):
        await requests.erase_user(peopled, "bob", reason="", request_id="r-1")
    at_once = await asyncio.gather(
        *(requests.erase_user(peopled, "bob", reason="", request_id="") for _call in range(10))
    )
    assert len({erasure.erasure_id for erasure in at_once}) == 1


async def test_a_completed_request_is_answered_with_its_receipt(
    erasures: Erasures, peopled: Caller, conversation_memory: ConversationMemory
) -> None:
    first = await erasures.erase_user(peopled, "ann", reason="", request_id="r-1")
    await append(conversation_memory, peopled, said("ann"))
    assert (await erasures.erase_user(peopled, "ann", reason="", request_id="r-1")) == replace(
        first, vacuumed_at=(await erasures.get(peopled, first.erasure_id)).vacuumed_at
    )
    assert (await erasures.erase_user(peopled, "ann", reason="", request_id="r-2")).erased == {
        "conversation_embeddings": 1,
        "turn_speakers": 1,
    }


async def test_reasons_that_name_the_subject_are_refused(requests: Erasures, peopled: Caller) -> None:
    for reason in ("ann asked", "request (ann)", "for ann."):
        with pytest.raises(InvalidInput) as refused:
            await requests.erase_user(peopled, "ann", reason=reason, request_id="")
        assert [violation.field for violation in refused.value.violations] == ["reason"]
    await requests.erase_user(peopled, "ann", reason="annual cleaning", request_id="")


async def test_who_may_erase_what(
    requests: Erasures, peopled: Caller, new_tenant: Callable[..., Awaitable[UUID]]
) -> None:
    plain = replace(peopled, rights=TENANT_RIGHTS - {Right.ADMIN})
    limited = replace(peopled, agent_ids=frozenset({OTHER_AGENT}))
    assert peopled.tenant_id is not None
    for refused in (
        requests.erase_user(plain, "ann", reason="", request_id=""),
        requests.erase_user(limited, "ann", reason="", request_id=""),
        requests.erase_user(OPERATOR, "ann", reason="", request_id=""),
        requests.erase_conversation(limited, "c", agent_id=None, user_id="", reason="", request_id=""),
        requests.erase_conversation(limited, "c", agent_id=uuid4(), user_id="", reason="", request_id=""),
        requests.erase_tenant(peopled, peopled.tenant_id, confirm_name="acme", reason="", request_id=""),
    ):
        with pytest.raises(PermissionDenied):
            await refused
    erasure = await requests.erase_user(peopled, "ann", reason="", request_id="")
    stranger = replace(peopled, tenant_id=await new_tenant())
    with pytest.raises(NotFound):
        await requests.get(stranger, erasure.erasure_id)
    with pytest.raises(PermissionDenied):
        await requests.get(plain, erasure.erasure_id)
    assert await requests.get(OPERATOR, erasure.erasure_id) == erasure


async def test_without_an_eraser_role_erasing_is_refused_with_the_setting(
    database: Database, peopled: Caller
) -> None:
    erasures = Erasures(PostgresErasureStore(database), None, requested=lambda: None)
    with pytest.raises(FailedPrecondition, match="MEMSIDECAR_ERASER_DATABASE_URL"):
        await erasures.erase_user(peopled, "ann", reason="", request_id="")
