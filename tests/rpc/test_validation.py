"""Bad input is refused whole, with every bad field named, and changes nothing."""

# ruff: noqa: E501 - one case, one line
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from memsidecar.v1 import common_pb2
from memsidecar.v1 import conversation_memory_pb2 as pb
from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceStub
from tests.rpc.statuses import bad_fields, reason
from tests.rpc.test_conversation_memory import turn

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return ConversationMemoryServiceStub(channel)


def deep_struct(levels: int) -> Struct:
    innermost: Any = "x"
    for _level in range(levels):
        innermost = {"a": innermost}
    struct = Struct()
    struct.update(innermost)
    return struct


def struct(**values: Any) -> Struct:
    message = Struct()
    message.update(values)
    return message


BAD_TURNS: list[tuple[str, Callable[[], pb.NewTurn], list[str]]] = [
    ("nothing at all", pb.NewTurn, ["turn.role", "turn.agent_id", "turn.user_id", "turn.conversation_id", "turn.content"]),
    ("agent is no UUID", lambda: turn("x", agent_id="agent-7"), ["turn.agent_id"]),
    ("agent is a UUID in braces", lambda: turn("x", agent_id="{018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071}"), ["turn.agent_id"]),
    ("agent is the nil UUID", lambda: turn("x", agent_id="00000000-0000-0000-0000-000000000000"), ["turn.agent_id"]),
    ("empty content", lambda: turn(""), ["turn.content"]),
    ("blank content", lambda: turn(" \n\t "), ["turn.content"]),
    ("oversized content", lambda: turn("x" * 32_769), ["turn.content"]),
    ("NUL in content", lambda: turn("a\x00b"), ["turn.content"]),
    ("NUL in user", lambda: turn("x", user_id="a\x00b"), ["turn.user_id"]),
    ("long user", lambda: turn("x", user_id="u" * 257), ["turn.user_id"]),
    ("unknown role", lambda: turn("x", role=99), ["turn.role"]),
    ("unknown action", lambda: turn("x", action=9), ["turn.action"]),
    ("far future", lambda: turn("x", occurred_at=Timestamp(seconds=32_503_680_000)), ["turn.occurred_at"]),
    ("before 1970", lambda: turn("x", occurred_at=Timestamp(seconds=-1)), ["turn.occurred_at"]),
    ("after 9999", lambda: turn("x", occurred_at=Timestamp(seconds=10**15)), ["turn.occurred_at"]),
    ("absurd nanos", lambda: turn("x", occurred_at=Timestamp(seconds=1, nanos=2_000_000_000)), ["turn.occurred_at"]),
    ("event without id", lambda: turn("x", event=pb.Event(source="slack")), ["turn.event.event_id"]),
    ("our own source", lambda: turn("x", event=pb.Event(source="memsidecar:request", event_id="1")), ["turn.event.source"]),
    ("event and request", lambda: turn("x", event=pb.Event(source="s", event_id="1"), request_id="r"), ["turn.request_id"]),
    ("edit without target", lambda: turn("x", action=pb.TURN_ACTION_EDITED), ["turn.target"]),
    ("target without edit", lambda: turn("x", target=pb.Event(source="s", event_id="1")), ["turn.target"]),
    ("deletion with content", lambda: turn("x", action=pb.TURN_ACTION_DELETED, target=pb.Event(source="s", event_id="1")), ["turn.content"]),
    ("deep metadata", lambda: turn("x", metadata=deep_struct(9)), ["turn.metadata"]),
    ("very deep metadata", lambda: turn("x", metadata=deep_struct(20)), ["turn.metadata"]),
    ("large metadata", lambda: turn("x", metadata=struct(a="y" * 16_384)), ["turn.metadata"]),
    ("NUL in metadata", lambda: turn("x", metadata=struct(a="y\x00z")), ["turn.metadata"]),
    ("NUL in a metadata key", lambda: turn("x", metadata=struct(**{"y\x00z": 1})), ["turn.metadata"]),
    ("infinite metadata", lambda: turn("x", metadata=struct(a=float("inf"))), ["turn.metadata"]),
    ("NaN metadata", lambda: turn("x", metadata=struct(a=float("nan"))), ["turn.metadata"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "fields"), [case[1:] for case in BAD_TURNS], ids=[case[0] for case in BAD_TURNS]
)
async def test_a_bad_turn_is_refused_and_nothing_is_stored(
    stub: Any, make: Callable[[], pb.NewTurn], fields: list[str]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.AppendTurn(pb.AppendTurnRequest(turn=make()))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(refused.value) == "INVALID_INPUT"
    assert sorted(bad_fields(refused.value)) == sorted(fields)
    assert (await stub.ListTurns(pb.ListTurnsRequest())).turns == []


async def test_one_bad_turn_refuses_the_batch_whole(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.AppendTurns(pb.AppendTurnsRequest(turns=[turn("good"), turn(""), turn("x", user_id="")]))
    assert bad_fields(refused.value) == ["turns[1].content", "turns[2].user_id"]
    assert (await stub.ListTurns(pb.ListTurnsRequest())).turns == []


@pytest.mark.parametrize("count", [0, 257])
async def test_a_batch_has_1_to_256_turns(stub: Any, count: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.AppendTurns(pb.AppendTurnsRequest(turns=[turn("x")] * count))
    assert bad_fields(refused.value) == ["turns"]


BAD_RECALLS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("no query", {"query": ""}, ["query"]),
    ("oversized query", {"query": "x" * 8_193}, ["query"]),
    ("NUL in query", {"query": "a\x00"}, ["query"]),
    ("negative k", {"top_k": -1}, ["top_k"]),
    ("k too large", {"top_k": 201}, ["top_k"]),
    ("unknown mode", {"mode": 7}, ["mode"]),
    ("negative neighbours", {"neighbours": -1}, ["neighbours"]),
    ("too many neighbours", {"neighbours": 11}, ["neighbours"]),
    ("negative budget", {"token_budget": -5}, ["token_budget"]),
    ("weight too large", {"ranking": pb.RankingOptions(vector_weight=11)}, ["ranking.vector_weight"]),
    ("weight not a number", {"ranking": pb.RankingOptions(lexical_weight=float("nan"))}, ["ranking.lexical_weight"]),
    ("empty preference", {"time_preference": common_pb2.TimePreference()}, ["time_preference"]),
    ("bad agent", {"scope": pb.TurnScope(agent_id="x")}, ["scope.agent_id"]),
    ("bad excluded id", {"scope": pb.TurnScope(exclude_turn_ids=["x"])}, ["scope.exclude_turn_ids[0]"]),
    ("empty conversation", {"scope": pb.TurnScope(conversation_ids=[""])}, ["scope.conversation_ids[0]"]),
    ("too many conversations", {"scope": pb.TurnScope(conversation_ids=["c"] * 65)}, ["scope.conversation_ids"]),
    (
        "time turned round",
        {"scope": pb.TurnScope(occurred=common_pb2.TimeRange(start_time=Timestamp(seconds=9), end_time=Timestamp(seconds=9)))},
        ["scope.occurred"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "bad"), [case[1:] for case in BAD_RECALLS], ids=[case[0] for case in BAD_RECALLS]
)
async def test_a_bad_recall_is_refused(stub: Any, fields: dict[str, Any], bad: list[str]) -> None:
    request = pb.RecallSimilarRequest(**{"query": "x", "scope": pb.TurnScope(user_id="U1"), **fields})
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.RecallSimilar(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert bad_fields(refused.value) == bad


@pytest.mark.parametrize("page_token", ["x", "!!!", "W10", "eyJ9", "WyJhIiwxLDJd"])
async def test_a_page_token_of_somebody_elses_making_is_refused(stub: Any, page_token: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.ListTurns(pb.ListTurnsRequest(page_token=page_token))
    assert bad_fields(refused.value) == ["page_token"]


async def test_a_page_token_belongs_to_its_request(stub: Any) -> None:
    await stub.AppendTurns(pb.AppendTurnsRequest(turns=[turn("a"), turn("b")]))
    page = await stub.ListTurns(pb.ListTurnsRequest(scope=pb.TurnScope(user_id="U1"), page_size=1))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.ListTurns(
            pb.ListTurnsRequest(
                scope=pb.TurnScope(user_id="U2"), page_size=1, page_token=page.next_page_token
            )
        )
    assert bad_fields(refused.value) == ["page_token"]


@pytest.mark.parametrize("page_size", [-1, 1001])
async def test_a_page_has_1_to_1000_rows(stub: Any, page_size: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.ListTurns(pb.ListTurnsRequest(page_size=page_size))
    assert bad_fields(refused.value) == ["page_size"]


@pytest.mark.parametrize(
    "identifier", ["' OR 1=1 --", "%", "U_1", "日本語", "👩‍👩‍👧", "a" * 256, "\u202eevil", "$1"]
)
async def test_odd_ids_are_ordinary_text(stub: Any, identifier: str) -> None:
    await stub.AppendTurns(
        pb.AppendTurnsRequest(turns=[turn("mine", user_id=identifier), turn("other", user_id="U1x")])
    )
    listed = await stub.ListTurns(pb.ListTurnsRequest(scope=pb.TurnScope(user_id=identifier)))
    assert [each.content for each in listed.turns] == ["mine"]
    assert listed.turns[0].user_id == identifier
