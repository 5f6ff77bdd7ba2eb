"""Use cases on the test's database with the real model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from memsidecar.domain.conversation_memory import ConversationMemory
from memsidecar.domain.erasure import Erasures
from memsidecar.domain.erasure_worker import ErasureWorker
from memsidecar.domain.recall_engine import RecallEngine
from memsidecar.domain.user_memory import UserMemories
from memsidecar.postgres.conversation_store import PostgresConversationStore
from memsidecar.postgres.database import ERASER_ROLE, Database
from memsidecar.postgres.erasure_store import PostgresErasureStore
from memsidecar.postgres.erasure_work_store import PostgresErasureWorkStore
from memsidecar.postgres.recall_store import PostgresRecallStore
from memsidecar.postgres.reclaimer import PostgresReclaimer
from memsidecar.postgres.user_memory_store import PostgresUserMemoryStore
from tests.lifecycle.people import people

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from memsidecar.domain.caller import Caller
    from memsidecar.embedding.engine import OnnxEmbedder
    from tests.conftest import TestDatabase


@pytest.fixture
def conversation_memory(database: Database, embedder: OnnxEmbedder, model_id: int) -> ConversationMemory:
    """Appending and reading turns."""
    return ConversationMemory(PostgresConversationStore(database, model_id=model_id), embedder)


@pytest.fixture
def recall_engine(database: Database, embedder: OnnxEmbedder, model_id: int) -> RecallEngine:
    """Recalling turns."""
    return RecallEngine(PostgresRecallStore(database, model_id=model_id), embedder)


@pytest.fixture
def user_memories(database: Database, embedder: OnnxEmbedder, model_id: int) -> UserMemories:
    """Writing and reading user memories."""
    return UserMemories(PostgresUserMemoryStore(database, model_id=model_id), embedder)


@pytest.fixture
async def eraser(test_database: TestDatabase) -> AsyncIterator[Database]:
    pool = await Database.connect(test_database.eraser_url, max_connections=5, role=ERASER_ROLE)
    yield pool
    await pool.close()


@pytest.fixture
async def superuser(test_database: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(test_database.superuser_url)
    yield connection
    await connection.close()


@pytest.fixture
def worker(eraser: Database, test_database: TestDatabase) -> ErasureWorker:
    return ErasureWorker(
        PostgresErasureWorkStore(eraser), PostgresReclaimer(eraser, [test_database.owner_url])
    )


@pytest.fixture
async def erasures(database: Database, eraser: Database, worker: ErasureWorker) -> AsyncIterator[Erasures]:
    """Erasures with a worker at work on them."""
    worker.start()
    yield Erasures(PostgresErasureStore(database), PostgresErasureStore(eraser), requested=worker.notice)
    await worker.stop()


@pytest.fixture
def requests(database: Database, eraser: Database, monkeypatch: pytest.MonkeyPatch) -> Erasures:
    """Erasures that nobody works on, answered at once."""
    monkeypatch.setattr("memsidecar.domain.erasure.LONGEST_WAIT_SECONDS", 0.0)
    return Erasures(PostgresErasureStore(database), PostgresErasureStore(eraser), requested=lambda: None)


@pytest.fixture
async def peopled(
    caller: Caller,
    conversation_memory: ConversationMemory,
    user_memories: UserMemories,
    superuser: asyncpg.Connection,
    model_id: int,
) -> Caller:
    """A tenant in which Ann and Bob have something in every table."""
    await people(caller, conversation_memory, user_memories, superuser, model_id)
    return caller
