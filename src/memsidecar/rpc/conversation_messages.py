"""Conversation memory between messages and the domain: what comes in is checked, what goes out is built."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from memsidecar.domain.limits import (
    DEFAULT_TOP_K,
    MAX_CONTENT_CHARACTERS,
    MAX_EXCLUDED_TURNS,
    MAX_FUTURE,
    MAX_NEIGHBOURS,
    MAX_QUERY_CHARACTERS,
    MAX_SCOPE_VALUES,
    MAX_TOP_K,
)
from memsidecar.domain.recall import RankingOptions, RecallMode, RecallRequest, TimePreference
from memsidecar.domain.turns import (
    REQUEST_SOURCE,
    Event,
    NewTurn,
    Role,
    Speaker,
    TurnAction,
    TurnScope,
)
from memsidecar.rpc.messages import model_message, struct, time_range, timestamp
from memsidecar.v1 import common_pb2
from memsidecar.v1 import conversation_memory_pb2 as pb

if TYPE_CHECKING:
    from memsidecar.domain.embedding import ModelIdentity
    from memsidecar.domain.recall import Recall, RecallHit
    from memsidecar.domain.turns import AppendedTurn, Conversation, Turn
    from memsidecar.rpc.validation import Violations

_ROLES = {
    common_pb2.ROLE_USER: Role.USER,
    common_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    common_pb2.ROLE_SYSTEM: Role.SYSTEM,
    common_pb2.ROLE_TOOL: Role.TOOL,
}
_ROLE_VALUES = {role: value for value, role in _ROLES.items()}
_ACTIONS = {
    pb.TURN_ACTION_SAID: TurnAction.SAID,
    pb.TURN_ACTION_EDITED: TurnAction.EDITED,
    pb.TURN_ACTION_DELETED: TurnAction.DELETED,
}
_ACTION_VALUES = {action: value for value, action in _ACTIONS.items()}
_MODES = {
    pb.RECALL_MODE_FUSED: RecallMode.FUSED,
    pb.RECALL_MODE_VECTOR: RecallMode.VECTOR,
    pb.RECALL_MODE_LEXICAL: RecallMode.LEXICAL,
}
MAX_TOKEN_BUDGET = 1_000_000
_LONGEST_HALF_LIFE = timedelta(days=36_525)


def read_new_turn(violations: Violations, field: str, message: pb.NewTurn) -> NewTurn:
    """Check a turn to append."""
    now = datetime.now(UTC)
    action = violations.choice(f"{field}.action", message.action, _ACTIONS, default=TurnAction.SAID)
    deleting = action is TurnAction.DELETED
    role = violations.choice(f"{field}.role", message.role, _ROLES, default=Role.SYSTEM if deleting else None)
    if deleting and message.content:
        violations.add(f"{field}.content", "must be empty for a deletion")
    occurred_at = violations.time(
        f"{field}.occurred_at",
        message.occurred_at if message.HasField("occurred_at") else None,
        not_after=now + MAX_FUTURE,
    )
    return NewTurn(
        agent_id=violations.uuid(f"{field}.agent_id", message.agent_id),
        user_id=violations.identifier(f"{field}.user_id", message.user_id),
        conversation_id=violations.identifier(f"{field}.conversation_id", message.conversation_id),
        role=role or Role.USER,
        speaker=_read_speaker(violations, field, message),
        content=violations.text(
            f"{field}.content", message.content, most=MAX_CONTENT_CHARACTERS, least=0 if deleting else 1
        ),
        occurred_at=occurred_at or now,
        metadata=violations.metadata(f"{field}.metadata", message.metadata),
        event=_read_event_or_request(violations, field, message),
        action=action or TurnAction.SAID,
        target=_read_target(violations, field, message, action or TurnAction.SAID),
    )


def _read_speaker(violations: Violations, field: str, message: pb.NewTurn) -> Speaker:
    speaker_id = violations.identifier(
        f"{field}.speaker.speaker_id", message.speaker.speaker_id, required=False
    )
    if not speaker_id and message.role == common_pb2.ROLE_USER:
        speaker_id = message.user_id
    return Speaker(
        speaker_id,
        violations.identifier(f"{field}.speaker.display_name", message.speaker.display_name, required=False),
    )


def _read_event(violations: Violations, field: str, message: pb.Event) -> Event:
    if message.source == REQUEST_SOURCE:
        violations.add(f"{field}.source", f"must not be {REQUEST_SOURCE}, which stands for request_id")
    return Event(
        violations.identifier(f"{field}.source", message.source),
        violations.identifier(f"{field}.event_id", message.event_id),
    )


def _read_event_or_request(violations: Violations, field: str, message: pb.NewTurn) -> Event | None:
    if message.HasField("event") and message.request_id:
        violations.add(f"{field}.request_id", "must be empty when event is given: one of them is enough")
    if message.HasField("event"):
        return _read_event(violations, f"{field}.event", message.event)
    if message.request_id:
        return Event(REQUEST_SOURCE, violations.identifier(f"{field}.request_id", message.request_id))
    return None


def _read_target(violations: Violations, field: str, message: pb.NewTurn, action: TurnAction) -> Event | None:
    if action is TurnAction.SAID:
        if message.HasField("target"):
            violations.add(f"{field}.target", "must be empty unless action is an edit or a deletion")
        return None
    if not message.HasField("target"):
        violations.add(f"{field}.target", "is required: name the event that is edited or deleted")
        return None
    return _read_event(violations, f"{field}.target", message.target)


def read_scope(violations: Violations, message: pb.TurnScope) -> TurnScope:
    """Check a scope."""
    agent_id = violations.optional_uuid("scope.agent_id", message.agent_id)
    roles = [
        violations.choice(f"scope.roles[{index}]", value, _ROLES) for index, value in enumerate(message.roles)
    ]
    return TurnScope(
        agent_ids=() if agent_id is None else (agent_id,),
        user_id=violations.identifier("scope.user_id", message.user_id, required=False) or None,
        conversation_ids=violations.identifiers(
            "scope.conversation_ids", message.conversation_ids, most=MAX_SCOPE_VALUES
        ),
        roles=tuple(role for role in roles if role is not None),
        occurred=time_range(violations, "scope.occurred", message.occurred),
        metadata=violations.metadata("scope.metadata", message.metadata),
        speaker_ids=violations.identifiers("scope.speaker_ids", message.speaker_ids, most=MAX_SCOPE_VALUES),
        exclude_turn_ids=violations.uuids(
            "scope.exclude_turn_ids", message.exclude_turn_ids, most=MAX_EXCLUDED_TURNS
        ),
        exclude_conversation_ids=violations.identifiers(
            "scope.exclude_conversation_ids", message.exclude_conversation_ids, most=MAX_SCOPE_VALUES
        ),
        as_of=violations.time("scope.as_of", message.as_of if message.HasField("as_of") else None),
    )


def read_recall(violations: Violations, message: pb.RecallSimilarRequest) -> RecallRequest:
    """Check a recall."""
    return RecallRequest(
        query=violations.text("query", message.query, most=MAX_QUERY_CHARACTERS, least=1),
        scope=read_scope(violations, message.scope),
        top_k=violations.integer("top_k", message.top_k, least=1, most=MAX_TOP_K, default=DEFAULT_TOP_K),
        mode=violations.choice("mode", message.mode, _MODES, default=RecallMode.FUSED) or RecallMode.FUSED,
        ranking=_read_ranking(violations, message.ranking),
        time_preference=_read_time_preference(violations, message.time_preference)
        if message.HasField("time_preference")
        else None,
        neighbours=violations.integer("neighbours", message.neighbours, least=0, most=MAX_NEIGHBOURS),
        token_budget=violations.integer("token_budget", message.token_budget, least=0, most=MAX_TOKEN_BUDGET),
        explain=message.explain,
    )


def _read_ranking(violations: Violations, message: pb.RankingOptions) -> RankingOptions:
    given = {descriptor.name: value for descriptor, value in message.ListFields()}

    def optional(name: str, most: float) -> float | None:
        value = given.get(name)
        return violations.number(f"ranking.{name}", value, least=0, most=most)

    return RankingOptions(
        vector_weight=optional("vector_weight", 10),
        lexical_weight=optional("lexical_weight", 10),
        neighbour_credit=optional("neighbour_credit", 1),
        session_prior=optional("session_prior", 1),
        speaker_boost=optional("speaker_boost", 1),
        time_weight=optional("time_weight", 10),
        reply_credit=optional("reply_credit", 1),
        question_penalty=optional("question_penalty", 1),
        date_boost=optional("date_boost", 1),
        session_gap=violations.duration(
            "ranking.session_gap",
            message.session_gap if message.HasField("session_gap") else None,
            least=timedelta(seconds=1),
            most=timedelta(days=365),
        ),
        min_score=violations.number(
            "ranking.min_score",
            message.min_score if message.HasField("min_score") else None,
            least=-100,
            most=100,
        ),
        duplicate_similarity=optional("duplicate_similarity", 1),
    )


def _read_time_preference(violations: Violations, message: common_pb2.TimePreference) -> TimePreference:
    kind = message.WhichOneof("preference")
    if kind is None:
        violations.add("time_preference", "is empty: give half_life or window, or leave it out")
    reference = violations.time(
        "time_preference.reference_time",
        message.reference_time if message.HasField("reference_time") else None,
    )
    return TimePreference(
        half_life=violations.duration(
            "time_preference.half_life",
            message.half_life if kind == "half_life" else None,
            least=timedelta(seconds=1),
            most=_LONGEST_HALF_LIFE,
        ),
        window=time_range(violations, "time_preference.window", message.window) if kind == "window" else None,
        reference=reference,
    )


def turn_message(turn: Turn) -> pb.Turn:
    """Build the message of a stored turn."""
    return pb.Turn(
        turn_id=str(turn.turn_id),
        agent_id=str(turn.agent_id),
        user_id=turn.user_id,
        conversation_id=turn.conversation_id,
        role=_ROLE_VALUES[turn.role],
        speaker=pb.Speaker(speaker_id=turn.speaker.speaker_id, display_name=turn.speaker.display_name),
        content=turn.content,
        occurred_at=timestamp(turn.occurred_at),
        created_at=timestamp(turn.created_at),
        metadata=struct(turn.metadata),
        event=_event_message(turn.event),
        action=_ACTION_VALUES[turn.action],
        edited_at=timestamp(turn.edited_at),
    )


def _event_message(event: Event | None) -> pb.Event | None:
    if event is None or event.source == REQUEST_SOURCE:
        return None
    return pb.Event(source=event.source, event_id=event.event_id)


def appended_message(appended: AppendedTurn, model: ModelIdentity) -> pb.AppendedTurn:
    """Build the message of what became of an appended turn."""
    return pb.AppendedTurn(
        turn_id=str(appended.turn_id),
        created_at=timestamp(appended.created_at),
        repeated=appended.repeated,
        token_count=appended.token_count,
        truncated=appended.truncated,
        model=model_message(model),
    )


def recall_message(recall: Recall) -> pb.RecallSimilarResponse:
    """Build the answer to a recall."""
    timings = None
    if recall.timings:
        timings = common_pb2.Timings(
            **{f"{stage}_micros": int(seconds * 1e6) for stage, seconds in recall.timings.items()}
        )
    return pb.RecallSimilarResponse(
        hits=[_hit_message(hit) for hit in recall.hits],
        model=model_message(recall.model),
        strategy=recall.strategy,
        query_truncated=recall.query_truncated,
        budget_reached=recall.budget_reached,
        timings=timings,
    )


def _hit_message(hit: RecallHit) -> pb.RecallHit:
    return pb.RecallHit(
        turn=turn_message(hit.turn),
        score=hit.score,
        similarity=hit.similarity,
        parts=[
            common_pb2.ScorePart(
                name=part.name, raw=part.raw, normalized=part.normalized, weight=part.weight, rank=part.rank
            )
            for part in hit.parts
        ],
        context=[turn_message(turn) for turn in hit.context],
        duplicate_turn_ids=[str(turn_id) for turn_id in hit.duplicate_turn_ids],
    )


def conversation_message(conversation: Conversation) -> pb.Conversation:
    """Build the message of a conversation."""
    return pb.Conversation(
        agent_id=str(conversation.agent_id),
        user_id=conversation.user_id,
        conversation_id=conversation.conversation_id,
        turn_count=conversation.turn_count,
        first_occurred_at=timestamp(conversation.first_occurred_at),
        last_occurred_at=timestamp(conversation.last_occurred_at),
    )
