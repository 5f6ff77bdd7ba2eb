"""Use cases on the test's database with the real model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memsidecar.domain.conversation_memory import ConversationMemory
from memsidecar.domain.recall_engine import RecallEngine
from memsidecar.domain.user_memory import UserMemories
from memsidecar.postgres.conversation_store import PostgresConversationStore
from memsidecar.postgres.recall_store import PostgresRecallStore
from memsidecar.postgres.user_memory_store import PostgresUserMemoryStore

if TYPE_CHECKING:
    from memsidecar.embedding.engine import OnnxEmbedder
    from memsidecar.postgres.database import Database


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
