"""``memsidecar serve`` as a process: its first start, what it says, how it ends, what stands in its way."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest

from memsidecar.client import AppendedTurn, AsyncMemoryClient, NewTurn, UnavailableError
from tests.cli.processes import Serving, on_a_terminal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from memsidecar.client import Turn
    from tests.cli.conftest import Outcome
    from tests.conftest import TestDatabase

    Command = Callable[..., Awaitable[Outcome]]

AGENT = "018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071"

pytestmark = pytest.mark.usefixtures("model_directory")


@pytest.fixture(scope="module")
def directory(place: Path) -> Path:
    """A data directory that the tests here share, because making one takes the longest."""
    return place / "served"


@pytest.fixture(scope="module")
def serving(directory: Path) -> Iterator[Serving]:
    """A server with an embedded Postgres."""
    with Serving("--data-directory", directory) as process:
        yield process


async def test_it_serves_what_it_is_told(serving: Serving) -> None:
    async with AsyncMemoryClient(serving.address) as client:
        assert await client.health()
        turn = NewTurn(agent_id=AGENT, user_id="U1", conversation_id="C1", content="The kiln runs at night.")
        await client.append(turn)
        recall = await client.recall("when is the kiln on?")
    assert recall.hits[0].turn.content == "The kiln runs at night."


def test_its_log_is_json_and_says_that_it_is_open(serving: Serving) -> None:
    line = serving.wait_for("serving")
    assert line["embedded"] is True
    assert line["authentication"] == "none"
    warning = serving.wait_for("no authentication")
    assert warning["level"] == "warning"


async def test_a_second_one_on_the_same_directory_says_who_is_there(
    serving: Serving, directory: Path, memsidecar: Command
) -> None:
    assert serving.address
    with Serving("--data-directory", directory) as second:
        assert second.wait() == 1
    said = "\n".join(line["message"] for line in second.log)
    assert "already serves the data directory" in said
    assert "Use that one, or stop it (kill " in said
    assert "Traceback" not in said
    assert (await memsidecar("check", "--data-directory", directory, "--listen", serving.address)).code == 0


async def test_a_second_one_on_the_same_address_says_so(
    serving: Serving, memsidecar: Command, test_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", test_database.app_url)
    with Serving("--listen", serving.address) as second:
        assert second.wait() == 1
    said = "\n".join(line["message"] for line in second.log)
    assert f"{serving.address} cannot be listened on" in said
    assert "choose another address" in said


async def test_tokens_are_made_beside_a_running_server(
    serving: Serving, directory: Path, memsidecar: Command
) -> None:
    assert serving.address
    made = await memsidecar("token", "create", "bot", "--data-directory", directory)
    assert made.code == 0
    assert made.output.startswith("msc_")


async def test_check_finds_everything_well(serving: Serving, directory: Path, memsidecar: Command) -> None:
    checked = await memsidecar("check", "--data-directory", directory, "--listen", serving.address)
    assert checked.code == 0
    for part in ("model", "database", "schema", "pool", "server"):
        assert f"ok     {part}" in checked.output


def test_it_ends_gracefully_and_keeps_what_it_was_told(directory: Path, serving: Serving) -> None:
    """Last of those that share the server: it ends it."""
    serving.signal(signal.SIGTERM)
    assert serving.wait() == 0
    assert serving.wait_for("stopped")
    with Serving("--data-directory", directory) as again:
        assert [turn.content for turn in _turns(again.address)] == ["The kiln runs at night."]
        again.signal(signal.SIGINT)
        assert again.wait() == 0


def test_what_was_acknowledged_before_the_end_is_kept(test_database: TestDatabase) -> None:
    with Serving(DATABASE_URL=test_database.app_url) as process:

        async def append_while_stopping() -> set[str]:
            async with AsyncMemoryClient(process.address) as client:
                await client.append(turn("warm"))
                running = [asyncio.create_task(client.append(turn(f"turn {number}"))) for number in range(40)]
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                process.signal(signal.SIGTERM)
                answers = await asyncio.gather(*running, return_exceptions=True)
            assert {type(answer) for answer in answers} <= {AppendedTurn, UnavailableError}
            return {answer.turn_id for answer in answers if isinstance(answer, AppendedTurn)}

        acknowledged = asyncio.run(append_while_stopping())
        assert process.wait() == 0
    with Serving(DATABASE_URL=test_database.app_url) as process:
        assert acknowledged <= {turn.turn_id for turn in _turns(process.address)}


def test_on_a_terminal_it_says_where_it_is_and_that_it_is_open(
    test_database: TestDatabase, monkeypatch: Any
) -> None:
    monkeypatch.setenv("DATABASE_URL", test_database.app_url)
    code, shown = on_a_terminal("serve", "--listen", "127.0.0.1:0", until="Ctrl-C")
    assert code == 0
    assert "address   127.0.0.1:" in shown
    assert "database  PostgreSQL" in shown
    assert "model     all-MiniLM-L6-v2, int8" in shown
    assert "there is no authentication" in shown


def turn(content: str) -> NewTurn:
    return NewTurn(agent_id=AGENT, user_id="U1", conversation_id="C1", content=content)


def _turns(address: str) -> list[Turn]:
    async def read() -> list[Turn]:
        async with AsyncMemoryClient(address) as client:
            return [turn async for turn in client.list_turns()]

    return asyncio.run(read())
