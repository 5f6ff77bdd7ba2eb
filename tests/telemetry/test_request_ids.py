"""One id finds a call in the answer, in the log and in the error."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import pytest

from memsidecar.domain.conversation_memory import ConversationMemory
from memsidecar.logs import set_up_logs
from memsidecar.v1 import conversation_memory_pb2 as pb
from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    stream = io.StringIO()
    set_up_logs("json", "debug", stream)
    yield stream
    root.handlers = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def ask(channel: grpc.aio.Channel, request_id: str | None) -> str:
    stub: Any = ConversationMemoryServiceStub(channel)
    metadata = () if request_id is None else (("x-request-id", request_id),)
    call = stub.ListTurns(pb.ListTurnsRequest(), metadata=metadata)
    await call
    return str(dict(await call.trailing_metadata())["x-request-id"])


async def test_the_callers_id_comes_back_and_is_in_the_log(
    channel: grpc.aio.Channel, log: io.StringIO
) -> None:
    assert await ask(channel, "slack-event:Ev01/retry=1") == "slack-event:Ev01/retry=1"
    [answered] = [line for line in lines(log) if line["message"] == "answered"]
    assert answered["request_id"] == "slack-event:Ev01/retry=1"
    assert (answered["method"], answered["code"]) == ("ListTurns", "OK")
    assert answered["milliseconds"] > 0


async def test_a_call_without_an_id_is_given_one(channel: grpc.aio.Channel) -> None:
    first, second = await ask(channel, None), await ask(channel, None)
    assert len(first) == 16
    assert first != second


@pytest.mark.parametrize("bad", ["", "two words", 'quote"', "x" * 129])
async def test_an_id_that_could_break_a_log_is_replaced(channel: grpc.aio.Channel, bad: str) -> None:
    assert len(await ask(channel, bad)) == 16


async def test_a_failure_carries_the_id_beside_its_details(channel: grpc.aio.Channel) -> None:
    stub: Any = ConversationMemoryServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await stub.GetTurn(pb.GetTurnRequest(turn_id=str(uuid4())), metadata=(("x-request-id", "abc"),))
    trailing = dict(missing.value.trailing_metadata())
    assert trailing["x-request-id"] == "abc"
    assert "grpc-status-details-bin" in trailing


async def test_a_defect_is_found_in_the_log_by_the_id_it_names(
    channel: grpc.aio.Channel, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stumble(*_arguments: Any, **_options: Any) -> None:
        raise RuntimeError("the cause")

    monkeypatch.setattr(ConversationMemory, "list_turns", stumble)
    stub: Any = ConversationMemoryServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as defect:
        await stub.ListTurns(pb.ListTurnsRequest(), metadata=(("x-request-id", "find-me"),))
    assert defect.value.code() is grpc.StatusCode.INTERNAL
    assert "find-me" in str(defect.value.details())
    [error] = [line for line in lines(log) if line["level"] == "error"]
    assert error["request_id"] == "find-me"
    assert "the cause" in error["exception"]


async def test_background_work_has_no_request_id(log: io.StringIO) -> None:
    logging.getLogger("memsidecar.test").info("on its own", extra={"jobs": 3})
    [line] = [line for line in lines(log) if line["logger"] == "memsidecar.test"]
    assert "request_id" not in line
    assert line["jobs"] == 3
