"""The calls of ConversationMemoryService, and how their answers are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memsidecar.client.calls import Call, Page
from memsidecar.client.messages import (
    duration,
    read_model,
    read_moment,
    read_optional_moment,
    read_part,
    read_struct,
    read_timings,
    struct,
    time_range,
    timestamp,
)
from memsidecar.client.turns import (
    AppendedTurn,
    Conversation,
    Event,
    Recall,
    RecallHit,
    RecallMode,
    RefusedTurn,
    Role,
    Speaker,
    Turn,
    TurnAction,
    TurnHistory,
    TurnOrder,
)
from memsidecar.domain.identifiers import new_uuid7
from memsidecar.v1 import common_pb2
from memsidecar.v1 import conversation_memory_pb2 as pb
from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from memsidecar.client.turns import NewTurn, RankingOptions, TimePreference, TurnScope

MAX_BATCH_TURNS = 256
MAX_BATCH_BYTES = 1_048_576
"""What one AppendTurns call takes."""

_ROLES = {
    Role.USER: common_pb2.ROLE_USER,
    Role.ASSISTANT: common_pb2.ROLE_ASSISTANT,
    Role.SYSTEM: common_pb2.ROLE_SYSTEM,
    Role.TOOL: common_pb2.ROLE_TOOL,
}
_ROLE_NAMES = {value: role for role, value in _ROLES.items()}
_ACTIONS = {
    TurnAction.SAID: pb.TURN_ACTION_SAID,
    TurnAction.EDITED: pb.TURN_ACTION_EDITED,
    TurnAction.DELETED: pb.TURN_ACTION_DELETED,
}
_ACTION_NAMES = {value: action for action, value in _ACTIONS.items()}
_MODES = {
    RecallMode.FUSED: pb.RECALL_MODE_FUSED,
    RecallMode.VECTOR: pb.RECALL_MODE_VECTOR,
    RecallMode.LEXICAL: pb.RECALL_MODE_LEXICAL,
}
_ORDERS = {
    TurnOrder.NEWEST_FIRST: pb.TURN_ORDER_NEWEST_FIRST,
    TurnOrder.OLDEST_FIRST: pb.TURN_ORDER_OLDEST_FIRST,
}


def append(turn: NewTurn) -> Call[AppendedTurn]:
    """Describe AppendTurn."""
    return Call(
        ConversationMemoryServiceStub,
        "AppendTurn",
        pb.AppendTurnRequest(turn=_new_turn(turn)),
        lambda response: _read_appended(response.turn),
    )


def append_many(turns: Sequence[NewTurn]) -> Call[list[AppendedTurn | RefusedTurn]]:
    """Describe AppendTurns for one batch."""
    return Call(
        ConversationMemoryServiceStub,
        "AppendTurns",
        pb.AppendTurnsRequest(turns=[_new_turn(turn) for turn in turns]),
        lambda response: [_read_result(result) for result in response.results],
    )


def batches(turns: Iterable[NewTurn]) -> Iterator[list[NewTurn]]:
    """Cut turns into batches that one call takes."""
    batch: list[NewTurn] = []
    size = 0
    for turn in turns:
        turn_size = len(turn.content.encode("utf-8", "surrogatepass"))
        if batch and (len(batch) == MAX_BATCH_TURNS or size + turn_size > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(turn)
        size += turn_size
    if batch:
        yield batch


def recall(
    query: str,
    scope: TurnScope | None,
    *,
    top_k: int,
    mode: RecallMode,
    ranking: RankingOptions | None,
    time_preference: TimePreference | None,
    neighbours: int,
    token_budget: int,
    explain: bool,
) -> Call[Recall]:
    """Describe RecallSimilar."""
    request = pb.RecallSimilarRequest(
        query=query,
        scope=_scope(scope),
        top_k=top_k,
        mode=_MODES[mode],
        ranking=_ranking(ranking),
        time_preference=_time_preference(time_preference),
        neighbours=neighbours,
        token_budget=token_budget,
        explain=explain,
    )
    return Call(ConversationMemoryServiceStub, "RecallSimilar", request, _read_recall)


def list_turns(
    scope: TurnScope | None, order: TurnOrder, page_size: int, page_token: str
) -> Call[Page[Turn]]:
    """Describe ListTurns for one page."""
    return Call(
        ConversationMemoryServiceStub,
        "ListTurns",
        pb.ListTurnsRequest(
            scope=_scope(scope), order=_ORDERS[order], page_size=page_size, page_token=page_token
        ),
        lambda response: Page(tuple(map(_read_turn, response.turns)), response.next_page_token),
    )


def get_turn(turn_id: str) -> Call[Turn]:
    """Describe GetTurn."""
    return Call(
        ConversationMemoryServiceStub,
        "GetTurn",
        pb.GetTurnRequest(turn_id=turn_id),
        lambda response: _read_turn(response.turn),
    )


def turn_history(turn_id: str) -> Call[TurnHistory]:
    """Describe GetTurnHistory."""
    return Call(
        ConversationMemoryServiceStub,
        "GetTurnHistory",
        pb.GetTurnHistoryRequest(turn_id=turn_id),
        lambda response: TurnHistory(rows=tuple(map(_read_turn, response.rows)), deleted=response.deleted),
    )


def list_conversations(scope: TurnScope | None, page_size: int, page_token: str) -> Call[Page[Conversation]]:
    """Describe ListConversations for one page."""
    return Call(
        ConversationMemoryServiceStub,
        "ListConversations",
        pb.ListConversationsRequest(scope=_scope(scope), page_size=page_size, page_token=page_token),
        lambda response: Page(
            tuple(map(_read_conversation, response.conversations)), response.next_page_token
        ),
    )


def _new_turn(turn: NewTurn) -> pb.NewTurn:
    speaker = turn.speaker
    return pb.NewTurn(
        agent_id=turn.agent_id,
        user_id=turn.user_id,
        conversation_id=turn.conversation_id,
        role=common_pb2.ROLE_UNSPECIFIED if turn.action is TurnAction.DELETED else _ROLES[turn.role],
        speaker=None
        if speaker is None
        else pb.Speaker(speaker_id=speaker.speaker_id, display_name=speaker.display_name),
        content=turn.content,
        occurred_at=timestamp(turn.occurred_at),
        metadata=struct(turn.metadata or None),
        event=_event(turn.event),
        request_id=turn.request_id or ("" if turn.event is not None else str(new_uuid7())),
        action=_ACTIONS[turn.action],
        target=_event(turn.target),
    )


def _event(event: Event | None) -> pb.Event | None:
    return None if event is None else pb.Event(source=event.source, event_id=event.event_id)


def _scope(scope: TurnScope | None) -> pb.TurnScope | None:
    if scope is None:
        return None
    return pb.TurnScope(
        agent_id=scope.agent_id,
        user_id=scope.user_id,
        conversation_ids=scope.conversation_ids,
        roles=[_ROLES[role] for role in scope.roles],
        occurred=time_range(scope.occurred),
        metadata=struct(scope.metadata or None),
        speaker_ids=scope.speaker_ids,
        exclude_turn_ids=scope.exclude_turn_ids,
        exclude_conversation_ids=scope.exclude_conversation_ids,
        as_of=timestamp(scope.as_of),
    )


def _ranking(options: RankingOptions | None) -> pb.RankingOptions | None:
    if options is None:
        return None
    return pb.RankingOptions(
        vector_weight=options.vector_weight,
        lexical_weight=options.lexical_weight,
        neighbour_credit=options.neighbour_credit,
        session_prior=options.session_prior,
        speaker_boost=options.speaker_boost,
        time_weight=options.time_weight,
        session_gap=duration(options.session_gap),
        min_score=options.min_score,
        duplicate_similarity=options.duplicate_similarity,
    )


def _time_preference(preference: TimePreference | None) -> common_pb2.TimePreference | None:
    if preference is None:
        return None
    if (preference.half_life is None) == (preference.window is None):
        raise ValueError("a TimePreference has either a half_life or a window")
    return common_pb2.TimePreference(
        half_life=duration(preference.half_life),
        window=time_range(preference.window),
        reference_time=timestamp(preference.reference_time),
    )


def _read_appended(message: pb.AppendedTurn) -> AppendedTurn:
    return AppendedTurn(
        turn_id=message.turn_id,
        created_at=read_moment(message.created_at),
        repeated=message.repeated,
        token_count=message.token_count,
        truncated=message.truncated,
        model=read_model(message.model),
    )


def _read_result(message: pb.AppendTurnResult) -> AppendedTurn | RefusedTurn:
    if message.HasField("turn"):
        return _read_appended(message.turn)
    failure = message.failure
    return RefusedTurn(code=failure.code, reason=failure.reason, message=failure.message)


def _read_turn(message: pb.Turn) -> Turn:
    event = message.event
    return Turn(
        turn_id=message.turn_id,
        agent_id=message.agent_id,
        user_id=message.user_id,
        conversation_id=message.conversation_id,
        role=_ROLE_NAMES[message.role],
        speaker=Speaker(message.speaker.speaker_id, message.speaker.display_name),
        content=message.content,
        occurred_at=read_moment(message.occurred_at),
        created_at=read_moment(message.created_at),
        metadata=read_struct(message.metadata),
        event=Event(event.source, event.event_id) if message.HasField("event") else None,
        action=_ACTION_NAMES[message.action],
        edited_at=read_optional_moment(message, "edited_at"),
    )


def _read_recall(message: pb.RecallSimilarResponse) -> Recall:
    return Recall(
        hits=tuple(map(_read_hit, message.hits)),
        model=read_model(message.model),
        strategy=message.strategy,
        query_truncated=message.query_truncated,
        budget_reached=message.budget_reached,
        timings=read_timings(message),
    )


def _read_hit(message: pb.RecallHit) -> RecallHit:
    return RecallHit(
        turn=_read_turn(message.turn),
        score=message.score,
        similarity=message.similarity,
        parts=tuple(map(read_part, message.parts)),
        context=tuple(map(_read_turn, message.context)),
        duplicate_turn_ids=tuple(message.duplicate_turn_ids),
    )


def _read_conversation(message: pb.Conversation) -> Conversation:
    return Conversation(
        agent_id=message.agent_id,
        user_id=message.user_id,
        conversation_id=message.conversation_id,
        turn_count=message.turn_count,
        first_occurred_at=read_moment(message.first_occurred_at),
        last_occurred_at=read_moment(message.last_occurred_at),
    )
