"""Vector mode is nearest neighbours, exactly, in every scope."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pytest

from memsidecar.domain.turns import Role, TimeRange, TurnScope

from .conftest import EPOCH, unit_vectors

if TYPE_CHECKING:
    from memsidecar.postgres.recall_store import PostgresRecallStore

    from .conftest import InsertTurns, Vectors

AGENT, OTHER_AGENT = UUID(int=1), UUID(int=2)


def brute_force(
    vectors: Vectors, seconds: list[int], ids: list[UUID], question: Vectors, limit: int
) -> list[UUID]:
    """The nearest by float64 cosine; ties: the latest said first, then by id."""
    wide = vectors.astype(np.float64)
    cosine = wide @ question.astype(np.float64) / np.linalg.norm(wide, axis=1)
    order = sorted(range(len(ids)), key=lambda place: (-round(cosine[place], 9), -seconds[place], ids[place]))
    return [ids[place] for place in order[:limit]]


@pytest.mark.parametrize("seed", range(4))
async def test_the_nearest_are_those_of_brute_force(
    tenant_id: UUID, insert_turns: InsertTurns, recall_store: PostgresRecallStore, seed: int
) -> None:
    random = np.random.default_rng(seed)
    # Crowded on purpose: many turns are nearer to each other than half precision can tell apart.
    centres = unit_vectors(5, seed + 100)[random.integers(0, 5, 400)]
    vectors = centres + random.normal(0, 0.002, centres.shape).astype(np.float32)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    seconds = random.permutation(400).tolist()
    ids = await insert_turns(tenant_id, vectors, agent_id=AGENT, seconds=seconds)
    for question in centres[:5]:
        async with recall_store.reading(tenant_id, deadline=None) as reader:
            found = await reader.nearest(TurnScope(user_id="ann"), question.tobytes(), limit=25)
        expected = brute_force(vectors, seconds, ids, question, 25)
        similarity = {row_id: vectors[place] @ question for place, row_id in enumerate(ids)}
        assert [each.similarity for each in found] == pytest.approx(
            [similarity[row_id] for row_id in expected], abs=1e-6
        )


async def test_ties_go_to_the_latest_then_by_id(
    tenant_id: UUID, insert_turns: InsertTurns, recall_store: PostgresRecallStore
) -> None:
    same = np.repeat(unit_vectors(1, 1), 30, axis=0)
    seconds = [number // 3 for number in range(30)]
    ids = await insert_turns(tenant_id, same, agent_id=AGENT, seconds=seconds)
    expected = sorted(ids, key=lambda row_id: (-seconds[ids.index(row_id)], row_id))
    for limit in (1, 7, 30):
        async with recall_store.reading(tenant_id, deadline=None) as reader:
            found = await reader.nearest(TurnScope(), same[0].tobytes(), limit=limit)
        assert [each.row_id for each in found] == expected[:limit]


async def test_every_scope_and_filter_gives_min_of_k_and_visible(
    tenant_id: UUID, insert_turns: InsertTurns, recall_store: PostgresRecallStore
) -> None:
    vectors = unit_vectors(60, 5)
    roles = ["user", "assistant"] * 30
    ids = await insert_turns(tenant_id, vectors, agent_id=AGENT, user_id="ann", roles=roles)
    await insert_turns(tenant_id, unit_vectors(15, 6), agent_id=OTHER_AGENT, user_id="ann")
    await insert_turns(tenant_id, unit_vectors(9, 7), agent_id=AGENT, user_id="bob")
    first_half = TimeRange(EPOCH, EPOCH + timedelta(seconds=30))
    scopes = [
        (TurnScope(), 84),
        (TurnScope(agent_ids=(AGENT,)), 69),
        (TurnScope(agent_ids=(AGENT, OTHER_AGENT), user_id="bob"), 9),
        (TurnScope(user_id="ann"), 75),
        (TurnScope(agent_ids=(OTHER_AGENT,), user_id="ann"), 15),
        (TurnScope(user_id="ann", agent_ids=(AGENT,), roles=(Role.ASSISTANT,)), 30),
        (TurnScope(user_id="ann", agent_ids=(AGENT,), occurred=first_half), 30),
        (TurnScope(conversation_ids=("chat-1",)), 20),
        (TurnScope(conversation_ids=("chat-0",), user_id="bob"), 9),
        (TurnScope(conversation_ids=("chat-0",), agent_ids=(OTHER_AGENT,)), 15),
        (TurnScope(user_id="ann", agent_ids=(AGENT,), exclude_turn_ids=tuple(ids[:5])), 55),
        (TurnScope(user_id="ann", agent_ids=(AGENT,), exclude_conversation_ids=("chat-2",)), 40),
        (TurnScope(user_id="ann", metadata={"a": 1}), 0),
        (TurnScope(user_id="ann", speaker_ids=("nobody",)), 0),
        (TurnScope(user_id="ann", as_of=EPOCH), 0),
        (TurnScope(user_id="nobody"), 0),
    ]
    for scope, visible in scopes:
        for limit in (1, 25, 200):
            async with recall_store.reading(tenant_id, deadline=None) as reader:
                found = await reader.nearest(scope, vectors[0].tobytes(), limit=limit)
                candidates, corpus = await reader.candidates(
                    scope, vectors[0].tobytes(), "turn", language="english", pool=limit
                )
            assert len(found) == min(limit, visible), scope
            assert corpus.turns == visible, scope
            assert len(candidates) >= min(limit, visible), scope
