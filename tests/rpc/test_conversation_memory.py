"""Appending and recalling over a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from memsidecar.v1 import common_pb2
from memsidecar.v1 import conversation_memory_pb2 as pb
from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceStub

if TYPE_CHECKING:
    import grpc

AGENT = "018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071"
OTHER_AGENT = "018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6072"


def turn(content: str, **fields: Any) -> pb.NewTurn:
    return pb.NewTurn(
        **{
            "agent_id": AGENT,
            "user_id": "U1",
            "conversation_id": "C1",
            "role": common_pb2.ROLE_USER,
            "content": content,
            **fields,
        }
    )


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return ConversationMemoryServiceStub(channel)


async def append(stub: Any, *turns: pb.NewTurn) -> list[pb.AppendTurnResult]:
    return list((await stub.AppendTurns(pb.AppendTurnsRequest(turns=turns))).results)


async def recalled(stub: Any, query: str, *, top_k: int = 10, **scope: Any) -> list[str]:
    response = await stub.RecallSimilar(
        pb.RecallSimilarRequest(query=query, scope=pb.TurnScope(**scope), top_k=top_k)
    )
    return [hit.turn.content for hit in response.hits]


async def test_a_turn_is_found_by_the_next_call(stub: Any) -> None:
    response = await stub.AppendTurn(
        pb.AppendTurnRequest(turn=turn("The staging password rotates on Fridays"))
    )
    assert response.turn.token_count > 5
    assert not response.turn.truncated
    assert response.turn.model.name == "all-MiniLM-L6-v2"
    assert await recalled(stub, "when does the staging password change?") == [
        "The staging password rotates on Fridays"
    ]


async def test_the_best_answer_comes_first(stub: Any) -> None:
    await append(
        stub,
        turn("I am allergic to peanuts"),
        turn("The quarterly report is due on Monday"),
        turn("My cat is called Pixel"),
    )
    assert (await recalled(stub, "what food must they avoid?"))[0] == "I am allergic to peanuts"
    assert (await recalled(stub, "name of the pet"))[0] == "My cat is called Pixel"


async def test_min_of_k_and_visible_come_back(stub: Any) -> None:
    await append(stub, *[turn(f"note number {number}") for number in range(7)])
    assert len(await recalled(stub, "anything", top_k=10)) == 7
    assert len(await recalled(stub, "anything", top_k=3)) == 3


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"user_id": "U2"}, {"of user two"}),
        ({"agent_id": OTHER_AGENT}, {"of the other agent"}),
        ({"conversation_ids": ["C2"]}, {"in conversation two"}),
        ({"roles": [common_pb2.ROLE_ASSISTANT]}, {"by the assistant"}),
        ({"speaker_ids": ["S9"]}, {"by speaker nine"}),
        ({"user_id": "nobody"}, set()),
        (
            {"exclude_conversation_ids": ["C1"]},
            {"in conversation two"},
        ),
    ],
)
async def test_a_scope_narrows(stub: Any, scope: dict[str, Any], expected: set[str]) -> None:
    await append(
        stub,
        turn("of user two", user_id="U2"),
        turn("of the other agent", agent_id=OTHER_AGENT),
        turn("in conversation two", conversation_id="C2"),
        turn("by the assistant", role=common_pb2.ROLE_ASSISTANT),
        turn("by speaker nine", speaker=pb.Speaker(speaker_id="S9", display_name="Nina")),
    )
    assert set(await recalled(stub, "who is it?", **scope)) == expected


async def test_time_scope_is_half_open_and_on_occurred_at(stub: Any) -> None:
    def moment(day: int) -> Timestamp:
        stamp = Timestamp()
        stamp.FromJsonString(f"2024-03-{day:02d}T12:00:00Z")
        return stamp

    await append(stub, *[turn(f"said on day {day}", occurred_at=moment(day)) for day in (1, 2, 3)])
    found = await recalled(
        stub, "days", occurred=common_pb2.TimeRange(start_time=moment(1), end_time=moment(3))
    )
    assert set(found) == {"said on day 1", "said on day 2"}


async def test_metadata_filters_by_containment_and_comes_back(stub: Any) -> None:
    with_metadata = turn("deploy is blocked")
    with_metadata.metadata.update({"ticket": "OPS-7", "tags": ["deploy", "prod"]})
    await append(stub, with_metadata, turn("lunch at noon"))
    scope = pb.TurnScope()
    scope.metadata.update({"tags": ["prod"]})
    response = await stub.RecallSimilar(pb.RecallSimilarRequest(query="x", scope=scope))
    [hit] = response.hits
    assert hit.turn.metadata["ticket"] == "OPS-7"


async def test_the_same_event_is_stored_once(stub: Any) -> None:
    event = pb.Event(source="slack:T1/C1", event_id="Ev123")
    first = await stub.AppendTurn(pb.AppendTurnRequest(turn=turn("hello", event=event)))
    again = await stub.AppendTurn(pb.AppendTurnRequest(turn=turn("hello", event=event)))
    assert not first.turn.repeated
    assert again.turn.repeated
    assert again.turn.turn_id == first.turn.turn_id
    assert await recalled(stub, "hello") == ["hello"]


async def test_a_long_content_is_stored_whole_and_said_to_be_cut_for_meaning(stub: Any) -> None:
    long_text = "alpha beta gamma delta " * 200
    response = await stub.AppendTurn(pb.AppendTurnRequest(turn=turn(long_text)))
    assert response.turn.truncated
    assert response.turn.token_count > 256
    assert await recalled(stub, "greek letters") == [long_text]


async def test_turns_are_listed_in_pages_in_both_orders(stub: Any) -> None:
    for number in range(5):
        await append(stub, turn(f"turn {number}"))
    for order, expected in (
        (pb.TURN_ORDER_NEWEST_FIRST, ["turn 4", "turn 3", "turn 2", "turn 1", "turn 0"]),
        (pb.TURN_ORDER_OLDEST_FIRST, ["turn 0", "turn 1", "turn 2", "turn 3", "turn 4"]),
    ):
        listed: list[str] = []
        token = ""
        for _page in range(3):
            page = await stub.ListTurns(
                pb.ListTurnsRequest(
                    scope=pb.TurnScope(user_id="U1"), order=order, page_size=2, page_token=token
                )
            )
            listed += [each.content for each in page.turns]
            token = page.next_page_token
        assert listed == expected
        assert token == ""


async def test_a_turn_can_be_read_and_an_unknown_one_cannot(stub: Any) -> None:
    [result] = await append(stub, turn("read me"))
    read = await stub.GetTurn(pb.GetTurnRequest(turn_id=result.turn.turn_id))
    assert read.turn.content == "read me"
    with pytest.raises(Exception, match="there is no such turn"):
        await stub.GetTurn(pb.GetTurnRequest(turn_id=str(uuid4())))


async def test_conversations_are_listed_with_their_counts(stub: Any) -> None:
    await append(stub, turn("a", conversation_id="C1"), turn("b", conversation_id="C1"))
    await append(stub, turn("c", conversation_id="C2"))
    response = await stub.ListConversations(pb.ListConversationsRequest(scope=pb.TurnScope(user_id="U1")))
    assert [(each.conversation_id, each.turn_count) for each in response.conversations] == [
        ("C2", 1),
        ("C1", 2),
    ]
