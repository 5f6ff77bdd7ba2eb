"""The commands that talk to a running server, and those that act on its database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from memsidecar.client import AsyncMemoryClient, TurnScope
from tests.rpc.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from memsidecar.app import RunningSidecar
    from tests.cli.conftest import Outcome
    from tests.conftest import TestDatabase

    Command = Callable[..., Awaitable[Outcome]]

AGENT = "018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071"
TURN = ("--agent", AGENT, "--user", "U1", "--conversation", "C1")


@pytest.fixture
def server(sidecar: RunningSidecar, monkeypatch: pytest.MonkeyPatch) -> RunningSidecar:
    """A running server that commands find by themselves."""
    monkeypatch.setenv("MEMSIDECAR_LISTEN", sidecar.address)
    return sidecar


@pytest.fixture
def owned(test_database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> TestDatabase:
    """The test's database, as an operator configures it."""
    monkeypatch.setenv("DATABASE_URL", test_database.app_url)
    monkeypatch.setenv("MEMSIDECAR_OWNER_DATABASE_URL", test_database.owner_url)
    return test_database


def lines(path: Path, *turns: dict[str, Any] | str) -> Path:
    path.write_text("".join((turn if isinstance(turn, str) else json.dumps(turn)) + "\n" for turn in turns))
    return path


@pytest.mark.usefixtures("server")
async def test_what_was_appended_is_recalled(memsidecar: Command) -> None:
    appended = await memsidecar("append", *TURN, "--speaker", "Ada", "The spare key hangs behind the clock.")
    assert appended.code == 0
    await memsidecar("append", *TURN, "We eat at noon.")
    recalled = await memsidecar("recall", "--user", "U1", "-k", 1, "where is the key?")
    assert recalled.code == 0
    assert "Ada" in recalled.output
    assert "The spare key hangs behind the clock." in recalled.output
    assert "noon" not in recalled.output


@pytest.mark.usefixtures("server")
async def test_recall_prints_json_for_programs(memsidecar: Command) -> None:
    appended = await memsidecar("append", *TURN, "The spare key hangs behind the clock.")
    recalled = await memsidecar("recall", "--json", "where is the key?")
    [hit] = [json.loads(line) for line in recalled.output.splitlines()]
    assert hit["turn"]["turn_id"] == appended.output.strip()
    assert hit["turn"]["content"] == "The spare key hangs behind the clock."


@pytest.mark.usefixtures("server")
async def test_recall_stays_within_the_days_it_is_given(memsidecar: Command) -> None:
    await memsidecar("append", *TURN, "--occurred-at", "2025-01-05", "The spare key hangs behind the clock.")
    await memsidecar("append", *TURN, "--occurred-at", "2025-03-05", "The spare key lies in the drawer.")
    recalled = await memsidecar("recall", "--since", "2025-03-01", "where is the key?")
    assert "drawer" in recalled.output
    assert "clock" not in recalled.output


@pytest.mark.usefixtures("server")
async def test_an_event_is_appended_once(memsidecar: Command) -> None:
    first = await memsidecar("append", *TURN, "--event", "slack:T1/C1", "Ev1", "Good morning")
    second = await memsidecar("append", *TURN, "--event", "slack:T1/C1", "Ev1", "Good morning")
    assert first.output == second.output
    assert "stored before" in second.errors


@pytest.mark.usefixtures("server")
async def test_every_bad_field_is_named(memsidecar: Command) -> None:
    refused = await memsidecar(
        "append", "--agent", AGENT, "--user", "u" * 257, "--conversation", " ", "Hello"
    )
    assert refused.code == 1
    assert "turn.user_id has 257 characters" in " ".join(refused.errors.split())
    assert "turn.conversation_id is required" in " ".join(refused.errors.split())
    assert "Traceback" not in refused.errors


async def test_a_server_that_is_not_there_is_said_to_be_missing(memsidecar: Command) -> None:
    refused = await memsidecar("recall", "--server", "127.0.0.1:1", "anything")
    assert refused.code == 1
    assert refused.errors == (
        "error: No memsidecar answers at 127.0.0.1:1.\n"
        "       Start one with 'memsidecar serve', or name the right address with --server.\n"
    )


async def test_an_address_is_checked(memsidecar: Command) -> None:
    refused = await memsidecar("recall", "--server", "here", "anything")
    assert refused.code == 1
    assert "give host:port" in refused.errors


@pytest.mark.usefixtures("owned")
async def test_a_missing_token_is_explained(
    memsidecar: Command,
    start_sidecar: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await memsidecar("tenant", "create", "acme")
    async with start_sidecar(authentication="token") as sidecar:
        refused = await memsidecar("recall", "--server", sidecar.address, "anything")
        assert refused.code == 1
        assert "This server needs a token" in refused.errors
        assert "memsidecar token create" in refused.errors

        made = await memsidecar("token", "create", "bot", "--tenant", "acme", "--right", "append")
        assert made.code == 0
        assert "append" in made.errors
        monkeypatch.setenv("MEMSIDECAR_TOKEN", made.output.strip())
        assert (await memsidecar("append", "--server", sidecar.address, *TURN, "Hello")).code == 0
        refused = await memsidecar("recall", "--server", sidecar.address, "anything")
        assert "needs a credential with the right 'recall'" in refused.errors


async def test_a_server_with_tls_is_talked_to_by_its_authority(
    memsidecar: Command,
    start_sidecar: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    authority = Authority()
    certificate, key = authority.server().write(tmp_path)
    settings = {"tls_certificate": certificate, "tls_key": key, "authentication": "none"}
    async with start_sidecar(**settings) as sidecar:
        monkeypatch.setenv("MEMSIDECAR_LISTEN", sidecar.address)
        assert "No memsidecar answers" in (await memsidecar("recall", "anything")).errors
        (tmp_path / "authority.crt").write_bytes(authority.pem)
        monkeypatch.setenv("MEMSIDECAR_SERVER_AUTHORITY", str(tmp_path / "authority.crt"))
        assert (await memsidecar("append", *TURN, "Hello")).code == 0
        monkeypatch.setenv("MEMSIDECAR_SERVER_AUTHORITY", str(tmp_path / "absent.crt"))
        assert "absent.crt cannot be read" in (await memsidecar("recall", "anything")).errors


@pytest.mark.usefixtures("owned")
async def test_tokens_are_listed_and_revoked(memsidecar: Command) -> None:
    await memsidecar("tenant", "create", "acme")
    secret = (await memsidecar("token", "create", "bot", "--tenant", "acme", "--days", 30)).output.strip()
    listed = (await memsidecar("token", "list", "--tenant", "acme")).output
    assert "append, documents, recall" in listed
    assert "works until" in listed
    assert secret not in listed
    token_id = listed.splitlines()[1].split()[0]
    revoked = await memsidecar("token", "revoke", token_id)
    assert (revoked.code, revoked.output) == (0, "Revoked bot.\n")
    assert "revoked" in (await memsidecar("token", "list", "--tenant", "acme")).output
    unknown = await memsidecar("token", "revoke", uuid4())
    assert unknown.code == 1
    assert "There is no token" in unknown.errors


@pytest.mark.usefixtures("owned")
async def test_tenants_are_made_and_listed(memsidecar: Command) -> None:
    made = await memsidecar("tenant", "create", "acme", "--language", "german")
    listed = await memsidecar("tenant", "list")
    assert made.output.strip() in listed.output
    assert "german" in listed.output
    taken = await memsidecar("tenant", "create", "acme")
    assert taken.code == 1
    assert "choose another name" in taken.errors
    bad = await memsidecar("tenant", "create", "Acme GmbH")
    assert bad.code == 1
    assert "must be 1 to 64 of a-z" in bad.errors
    nobody = await memsidecar("token", "create", "bot", "--tenant", "globex")
    assert nobody.code == 1
    assert "There is no tenant 'globex'" in nobody.errors


@pytest.mark.usefixtures("server")
async def test_importing_twice_stores_once(memsidecar: Command, tmp_path: Path) -> None:
    said = {"agent_id": AGENT, "user_id": "U1", "conversation_id": "C1"}
    file = lines(
        tmp_path / "turns.jsonl",
        {**said, "content": "ok"},
        {**said, "content": "ok"},
        "",
        {
            "content": "The kiln runs at night",
            "event": {"source": "slack", "event_id": "E1"},
            "role": "assistant",
        },
    )
    arguments = ("import", file, "--agent", AGENT, "--user", "U2", "--conversation", "C2")
    first = await memsidecar(*arguments)
    assert (first.code, first.output) == (0, "3 turns stored, 0 were there before, 0 refused.\n")
    second = await memsidecar(*arguments)
    assert (second.code, second.output) == (0, "0 turns stored, 3 were there before, 0 refused.\n")


@pytest.mark.usefixtures("server")
async def test_a_file_with_bad_lines_is_not_imported_at_all(memsidecar: Command, tmp_path: Path) -> None:
    said = {"agent_id": AGENT, "user_id": "U1", "conversation_id": "C1"}
    file = lines(tmp_path / "turns.jsonl", {**said, "content": "good"}, "{", {"content": "whose?"})
    refused = await memsidecar("import", file)
    assert refused.code == 1
    assert f"{file}:2: not JSON" in refused.errors
    assert f"{file}:3: agent_id, user_id, conversation_id missing" in refused.errors
    assert "Nothing was stored." in refused.errors
    assert "Nothing is stored there yet" in (await memsidecar("recall", "good")).errors


async def test_a_turn_the_server_refuses_does_not_hold_up_the_others(
    memsidecar: Command, server: RunningSidecar, tmp_path: Path
) -> None:
    said = {"agent_id": AGENT, "user_id": "U1", "conversation_id": "C1"}
    file = lines(
        tmp_path / "turns.jsonl",
        {**said, "content": "first"},
        {**said, "content": ""},
        {**said, "content": "third"},
    )
    imported = await memsidecar("import", file)
    assert imported.code == 1
    assert imported.output == "2 turns stored, 0 were there before, 1 refused.\n"
    assert f"{file}:2: turn.content" in imported.errors
    async with AsyncMemoryClient(server.address) as client:
        contents = {turn.content async for turn in client.list_turns(TurnScope(user_id="U1"))}
    assert contents == {"first", "third"}


@pytest.mark.usefixtures("server")
async def test_documents_are_taken_in_and_searched(memsidecar: Command, tmp_path: Path) -> None:
    handbook = tmp_path / "handbook.md"
    handbook.write_text("# Handbook\n\n## Keys\n\nThe spare key hangs behind the clock.\n")
    taken_in = await memsidecar("ingest", "--global", handbook)
    assert (taken_in.code, taken_in.output) == (0, "1 documents taken in, 0 unchanged, 0 failed.\n")
    again = await memsidecar("ingest", "--global", handbook)
    assert again.output == "0 documents taken in, 1 unchanged, 0 failed.\n"
    found = await memsidecar("search", "where is the key?")
    assert str(handbook) in found.output
    assert "Handbook > Keys" in found.output
    assert "behind the clock" in found.output


@pytest.mark.usefixtures("server")
async def test_a_document_that_cannot_be_read_is_named(memsidecar: Command, tmp_path: Path) -> None:
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"\xff\xfe\x00\xd8 not text \x00")
    refused = await memsidecar("ingest", "--global", "--type", "text", broken)
    assert refused.code == 1
    assert "1 failed" in refused.output
    assert str(broken) in refused.errors
    missing = await memsidecar("ingest", "--global", tmp_path / "absent.md")
    assert missing.code == 1
    assert "cannot be read" in missing.errors


@pytest.mark.usefixtures("owned")
async def test_migrate_runs_as_the_owner(memsidecar: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_to_do = await memsidecar("migrate")
    assert nothing_to_do.code == 0
    assert "already" in nothing_to_do.output
    back = await memsidecar("migrate", "--revision", "base")
    assert back.code == 0
    forth = await memsidecar("migrate", "--app-role", "memsidecar_server")
    assert (forth.code, forth.output.endswith("it was at none.\n")) == (0, True)
    monkeypatch.delenv("MEMSIDECAR_OWNER_DATABASE_URL")
    refused = await memsidecar("migrate")
    assert refused.code == 1
    assert "Set MEMSIDECAR_OWNER_DATABASE_URL" in refused.errors


@pytest.mark.usefixtures("owned")
async def test_maintain_says_when_nothing_was_due(
    memsidecar: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    maintained = await memsidecar("maintain")
    assert (maintained.code, maintained.output) == (0, "Nothing was due.\n")
    monkeypatch.delenv("MEMSIDECAR_OWNER_DATABASE_URL")
    assert "Set MEMSIDECAR_OWNER_DATABASE_URL" in (await memsidecar("maintain")).errors


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_is_printed_for(memsidecar: Command, shell: str) -> None:
    printed = await memsidecar("completion", shell)
    assert printed.code == 0
    assert "_MEMSIDECAR_COMPLETE" in printed.output


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("re", "recall"), ("token re", "revoke"), ("recall --mode f", "fused"), ("recall --to", "--top-k")],
)
async def test_the_shell_completes(
    memsidecar: Command, monkeypatch: pytest.MonkeyPatch, typed: str, completed: str
) -> None:
    monkeypatch.setenv("_MEMSIDECAR_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"memsidecar {typed}")
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split())))
    printed = await memsidecar()
    assert printed.output.splitlines() == [f"plain,{completed}"]


async def test_help_names_every_command(memsidecar: Command) -> None:
    printed = await memsidecar("--help")
    assert printed.code == 0
    for name in (
        "demo",
        "serve",
        "check",
        "append",
        "recall",
        "import",
        "ingest",
        "search",
        "tenant",
        "token",
    ):
        assert name in printed.output
