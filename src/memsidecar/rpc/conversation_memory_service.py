"""ConversationMemoryService: what was said."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from memsidecar.domain.errors import DomainError
from memsidecar.domain.limits import DEFAULT_PAGE_SIZE, MAX_BATCH_CONTENT_BYTES, MAX_BATCH_TURNS
from memsidecar.domain.paging import decode_page_token, encode_page_token
from memsidecar.rpc.conversation_messages import (
    appended_message,
    conversation_message,
    read_new_turn,
    read_recall,
    read_scope,
    recall_message,
    turn_message,
)
from memsidecar.rpc.errors import status_code
from memsidecar.rpc.validation import Violations
from memsidecar.v1 import conversation_memory_pb2 as pb
from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceServicer

if TYPE_CHECKING:
    from memsidecar.domain.conversation_memory import ConversationMemory
    from memsidecar.domain.embedding import ModelIdentity
    from memsidecar.domain.recall_engine import RecallEngine
    from memsidecar.rpc.authentication import Authentication
    from memsidecar.rpc.context import ServicerContext


class ConversationMemoryService(ConversationMemoryServiceServicer):
    """Checks requests, calls the use cases, builds responses; the contract is documented in the proto."""

    def __init__(
        self,
        authentication: Authentication,
        memory: ConversationMemory,
        recall_engine: RecallEngine,
        model: ModelIdentity,
    ) -> None:
        self._authentication = authentication
        self._memory = memory
        self._recall_engine = recall_engine
        self._model = model

    async def AppendTurn(
        self, request: pb.AppendTurnRequest, context: ServicerContext
    ) -> pb.AppendTurnResponse:
        """Store one turn."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        turn = read_new_turn(violations, "turn", request.turn)
        violations.raise_if_any()
        [outcome] = await self._memory.append(caller, [turn])
        if isinstance(outcome, DomainError):
            raise outcome
        return pb.AppendTurnResponse(turn=appended_message(outcome, self._model))

    async def AppendTurns(
        self, request: pb.AppendTurnsRequest, context: ServicerContext
    ) -> pb.AppendTurnsResponse:
        """Store many turns, each for itself."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        violations.count("turns", len(request.turns), least=1, most=MAX_BATCH_TURNS)
        size = sum(len(turn.content.encode()) for turn in request.turns)
        if size > MAX_BATCH_CONTENT_BYTES:
            violations.add(
                "turns", f"hold {size:,} bytes of content: send at most {MAX_BATCH_CONTENT_BYTES:,}"
            )
        turns = [
            read_new_turn(violations, f"turns[{index}]", turn)
            for index, turn in enumerate(request.turns[:MAX_BATCH_TURNS])
        ]
        violations.raise_if_any()
        results = []
        for outcome in await self._memory.append(caller, turns):
            if isinstance(outcome, DomainError):
                failure = pb.AppendTurnFailure(
                    code=status_code(outcome).value[0], reason=outcome.reason, message=outcome.message
                )
                results.append(pb.AppendTurnResult(failure=failure))
            else:
                results.append(pb.AppendTurnResult(turn=appended_message(outcome, self._model)))
        return pb.AppendTurnsResponse(results=results)

    async def RecallSimilar(
        self, request: pb.RecallSimilarRequest, context: ServicerContext
    ) -> pb.RecallSimilarResponse:
        """Find what matters for a query."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        recall_request = read_recall(violations, request)
        violations.raise_if_any()
        return recall_message(await self._recall_engine.recall(caller, recall_request))

    async def ListTurns(self, request: pb.ListTurnsRequest, context: ServicerContext) -> pb.ListTurnsResponse:
        """Read turns in the order they were said."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        scope = read_scope(violations, request.scope)
        limit = violations.page_size(request.page_size, default=DEFAULT_PAGE_SIZE)
        order = violations.choice("order", request.order, {1: "newest", 2: "oldest"}, default="newest")
        violations.raise_if_any()
        request_key = f"turns {order} {scope!r}"
        after = decode_page_token(request.page_token, request_key=request_key, kinds=(datetime, UUID))
        page = await self._memory.list_turns(
            caller, scope, newest_first=order == "newest", limit=limit, after=after
        )
        return pb.ListTurnsResponse(
            turns=[turn_message(turn) for turn in page.items],
            next_page_token=encode_page_token(page.next_position, request_key=request_key),
        )

    async def GetTurn(self, request: pb.GetTurnRequest, context: ServicerContext) -> pb.GetTurnResponse:
        """Read one turn."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        turn_id = violations.uuid("turn_id", request.turn_id)
        violations.raise_if_any()
        return pb.GetTurnResponse(turn=turn_message(await self._memory.get_turn(caller, turn_id)))

    async def GetTurnHistory(
        self, request: pb.GetTurnHistoryRequest, context: ServicerContext
    ) -> pb.GetTurnHistoryResponse:
        """Read everything that happened to a turn."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        turn_id = violations.uuid("turn_id", request.turn_id)
        violations.raise_if_any()
        rows = [turn_message(turn) for turn in await self._memory.turn_history(caller, turn_id)]
        return pb.GetTurnHistoryResponse(
            rows=rows, deleted=any(row.action == pb.TURN_ACTION_DELETED for row in rows)
        )

    async def ListConversations(
        self, request: pb.ListConversationsRequest, context: ServicerContext
    ) -> pb.ListConversationsResponse:
        """List conversations."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        scope = read_scope(violations, request.scope)
        limit = violations.page_size(request.page_size, default=DEFAULT_PAGE_SIZE)
        violations.raise_if_any()
        request_key = f"conversations {scope!r}"
        after = decode_page_token(
            request.page_token, request_key=request_key, kinds=(datetime, UUID, str, str)
        )
        page = await self._memory.list_conversations(caller, scope, limit=limit, after=after)
        return pb.ListConversationsResponse(
            conversations=[conversation_message(conversation) for conversation in page.items],
            next_page_token=encode_page_token(page.next_position, request_key=request_key),
        )
