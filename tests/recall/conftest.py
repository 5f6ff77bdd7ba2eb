"""Turns with vectors of the test's own choosing, and the real engine on them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from memsidecar.domain.conversation_memory import ConversationMemory
from memsidecar.domain.identifiers import new_uuid7
from memsidecar.domain.recall_engine import RecallEngine
from memsidecar.postgres.conversation_store import PostgresConversationStore
from memsidecar.postgres.recall_store import PostgresRecallStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from memsidecar.embedding.engine import OnnxEmbedder
    from memsidecar.postgres.database import Database

    Vectors = NDArray[np.float32]
    InsertTurns = Callable[..., Awaitable[list[UUID]]]

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

_INSERT = """
INSERT INTO conversation_embeddings (
    tenant_id, model_id, id, turn_id, agent_id, user_id, conversation_id, role, content, token_count, occurred_at,
    embedding
)
SELECT $1, $2, id, id, agent_id, user_id, conversation_id, role, 'turn ' || position, 3, occurred_at, embedding
FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::vector[])
    WITH ORDINALITY AS given (id, agent_id, user_id, conversation_id, role, occurred_at, embedding, position)
"""


def unit_vectors(count: int, seed: int) -> Vectors:
    """Random directions."""
    vectors = np.random.default_rng(seed).normal(size=(count, 384)).astype(np.float32)
    units: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


@pytest.fixture
def insert_turns(database: Database, model_id: int) -> InsertTurns:
    """Store turns with given vectors in bulk; gives their ids."""

    async def insert(
        tenant_id: UUID,
        vectors: Vectors,
        *,
        agent_id: UUID,
        user_id: str = "ann",
        conversation_ids: Sequence[str] | None = None,
        roles: Sequence[str] | None = None,
        seconds: Sequence[int] | None = None,
    ) -> list[UUID]:
        count = len(vectors)
        ids = [new_uuid7() for _vector in vectors]
        columns: list[list[Any]] = [
            ids,
            [agent_id] * count,
            [user_id] * count,
            list(conversation_ids or [f"chat-{number // 20}" for number in range(count)]),
            list(roles or ["user"] * count),
            [EPOCH + timedelta(seconds=offset) for offset in (seconds or range(count))],
            [vector.tobytes() for vector in vectors],
        ]
        async with database.tenant(tenant_id) as connection:
            await connection.execute(_INSERT, tenant_id, model_id, *columns)
        return ids

    return insert


@pytest.fixture
def recall_store(database: Database, model_id: int) -> PostgresRecallStore:
    """The store under test."""
    return PostgresRecallStore(database, model_id=model_id)


@pytest.fixture
def conversation_memory(database: Database, embedder: OnnxEmbedder, model_id: int) -> ConversationMemory:
    """Appending turns."""
    return ConversationMemory(PostgresConversationStore(database, model_id=model_id), embedder)


@pytest.fixture
def recall_engine(recall_store: PostgresRecallStore, embedder: OnnxEmbedder) -> RecallEngine:
    """Recalling turns."""
    return RecallEngine(recall_store, embedder)
