"""Tenants with people in them, and a look at every table."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from memsidecar.domain.user_memory import MemoryKey, MemoryWrite
from tests.lifecycle.turn_events import deleted, edited, event, said

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.conversation_memory import ConversationMemory
    from memsidecar.domain.turns import NewTurn
    from memsidecar.domain.user_memory import UserMemories

OTHER_AGENT = UUID("018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6072")


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    """Wait until something is so; the test's own timeout is the bound."""
    while not await condition():  # noqa: ASYNC110 - what is waited for is elsewhere
        await asyncio.sleep(0.01)


async def append(memory: ConversationMemory, caller: Caller, *turns: NewTurn) -> None:
    for outcome in await memory.append(caller, turns):
        assert not isinstance(outcome, Exception)


async def add_documents(superuser: asyncpg.Connection, tenant_id: UUID, user_id: str, model_id: int) -> None:
    """A document with a chunk, a finished job that took it in, and an open one that others share."""
    await superuser.execute(f"SET app.current_tenant = '{tenant_id}'")
    document_id, job_id = uuid4(), uuid4()
    await superuser.execute(
        "INSERT INTO documents (tenant_id, id, document_key, user_id, document_type, content, content_sha256,"
        " recipe_sha256, chunk_count, job_id, submitted_at)"
        " VALUES ($1, $2, $3, $4, 'text', 'a handbook', sha256(''), sha256(''), 1, $5, now())",
        tenant_id,
        document_id,
        f"handbook of {user_id}",
        user_id,
        job_id,
    )
    await superuser.execute(
        "INSERT INTO document_chunks (tenant_id, id, document_id, chunk_index, user_id, is_global, document_type,"
        " content, start_char, end_char, token_count, occurred_at, model_id, embedding) VALUES ($1, $2, $3, 0, $4,"
        " false, 'text', 'a handbook', 0, 10, 3, now(), $5, array_fill(0.05, ARRAY[384])::vector)",
        tenant_id,
        uuid4(),
        document_id,
        user_id,
        model_id,
    )
    await superuser.execute(
        "INSERT INTO ingestion_jobs (tenant_id, id, status, total, processed, requested_by, finished_at)"
        " VALUES ($1, $2, 'completed', 1, 1, 'test', now())",
        tenant_id,
        job_id,
    )
    await add_job_document(superuser, tenant_id, job_id, 0, user_id, "completed")


async def add_job_document(
    superuser: asyncpg.Connection, tenant_id: UUID, job_id: UUID, position: int, user_id: str, status: str
) -> None:
    await superuser.execute(
        "INSERT INTO ingestion_job_documents (tenant_id, job_id, position, document_key, user_id, is_global,"
        " language, raw, raw_sha256, recipe_sha256, status)"
        " VALUES ($1, $2, $3, $4, $5, false, 'english', $6, sha256(''), sha256(''), $7)",
        tenant_id,
        job_id,
        position,
        f"key {position}",
        user_id,
        b"raw" if status == "queued" else None,
        status,
    )


async def rows_by_table(superuser: asyncpg.Connection, condition: str, *parameters: Any) -> dict[str, int]:
    """Count rows of every table that has a tenant_id, where the condition can be asked of it."""
    tables = await superuser.fetch(
        "SELECT c.relname::text AS name, array_agg(a.attname::text) AS columns FROM pg_class c"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace GROUP BY c.relname"
        " HAVING 'tenant_id' = ANY (array_agg(a.attname::text)) OR c.relname = 'tenants'"
    )
    counts = {}
    for table in tables:
        column = condition.split(maxsplit=1)[0]
        text = condition
        if table["name"] == "tenants" and column == "tenant_id":
            text = condition.replace("tenant_id", "id", 1)
        elif column not in table["columns"]:
            continue
        count = await superuser.fetchval(f"SELECT count(*) FROM {table['name']} WHERE {text}", *parameters)
        if count:
            counts[table["name"]] = count
    return counts


async def people(
    caller: Caller,
    conversation_memory: ConversationMemory,
    user_memories: UserMemories,
    superuser: asyncpg.Connection,
    model_id: int,
) -> None:
    """Give Ann and Bob something in every table of the caller's tenant."""
    assert caller.tenant_id is not None
    for user_id in ("ann", "bob"):
        await append(
            conversation_memory,
            caller,
            said(user_id),
            said(user_id, event=event("2-said"), content="bring the plans", conversation_id="plans"),
            said(user_id, event=None, content="no event", agent_id=OTHER_AGENT),
            edited(user_id, "3-edit", "let us meet at one", seconds=10),
            deleted(user_id, seconds=20, target=event("2-said")),
        )
        await user_memories.upsert(caller, MemoryKey(user_id), MemoryWrite(memory="likes tea"))
        await user_memories.upsert(caller, MemoryKey(user_id), MemoryWrite(memory="likes coffee"))
        await user_memories.upsert(caller, MemoryKey(user_id, OTHER_AGENT), MemoryWrite(memory="likes tea"))
        await superuser.execute(
            "INSERT INTO user_memory_archive (tenant_id, id, user_id, agent_id, revision, passage, model_id, embedding)"
            " VALUES ($1, $2, $3, '00000000-0000-0000-0000-000000000000', 1, 'old', $4,"
            " array_fill(0.05, ARRAY[384])::vector)",
            caller.tenant_id,
            uuid4(),
            user_id,
            model_id,
        )
        await add_documents(superuser, caller.tenant_id, user_id, model_id)
