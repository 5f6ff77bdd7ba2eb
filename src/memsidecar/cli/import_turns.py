"""``memsidecar import``: many turns from files of JSON Lines."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from memsidecar.cli.console import error_console, item_progress, output_console
from memsidecar.cli.failures import CommandFailed, ended
from memsidecar.cli.servers import PATIENT, open_server, server_option
from memsidecar.cli.turn_lines import read_turn
from memsidecar.client import InvalidRequestError, RefusedTurn
from memsidecar.domain.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from memsidecar.client import AppendedTurn, MemoryClient, NewTurn

BATCH_TURNS = 64
"""Turns of one call: enough to keep the embedding engine busy, few enough for the bar to move."""
SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class NumberedTurn:
    """A turn and where it came from."""

    place: str
    """``FILE:LINE``."""
    turn: NewTurn


@click.command("import")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, allow_dash=True)
)
@click.option("--agent", type=click.UUID, help="The agent of lines that name none, a UUID.")
@click.option("--user", help="The user of lines that name none.")
@click.option("--conversation", help="The conversation of lines that name none.")
@server_option
def import_turns(
    files: tuple[Path, ...],
    agent: object | None,
    user: str | None,
    conversation: str | None,
    server: str | None,
) -> None:
    """Store many turns from FILES of JSON Lines; - is standard input.

    Each line is an object with the fields of a turn: agent_id, user_id, conversation_id, role, content, and if you
    have them speaker, occurred_at, event, metadata. All lines are read once before the first is stored, so that bad
    ones are found in time. Importing a file again stores only what is new in it.
    """
    given = {"agent_id": agent, "user_id": user, "conversation_id": conversation}
    defaults = {name: str(value) for name, value in given.items() if value is not None}
    with _seekable(files) as paths:
        count = _check(paths, defaults)
        with open_server(server, PATIENT) as client:
            stored, repeated, refused = _store(client, _turns(paths, defaults), count)
    output_console().print(f"{stored} turns stored, {repeated} were there before, {len(refused)} refused.")
    if refused:
        raise CommandFailed(_shortened(refused))


@contextmanager
def _seekable(files: tuple[Path, ...]) -> Iterator[list[tuple[str, Path]]]:
    """Give name and path of each file, standard input copied to a file that can be read twice."""
    with tempfile.TemporaryDirectory() as folder:
        named = []
        for file in files:
            path = file
            if str(file) == "-":
                path = Path(folder) / "standard-input"
                with path.open("wb") as copy:
                    shutil.copyfileobj(sys.stdin.buffer, copy)
            elif not file.is_file():
                raise CommandFailed(
                    [Problem(f"There is no file {file}.", "Give the path of a file of JSON Lines.")]
                )
            named.append((str(file), path))
        yield named


def _check(paths: Iterable[tuple[str, Path]], defaults: Mapping[str, str]) -> int:
    """Read every line, and give their number."""
    count = 0
    problems = []
    for place, line in _lines(paths):
        count += 1
        try:
            turn = read_turn(line, defaults)
        except ValueError as error:
            problems.append(Problem(ended(f"{place}: {error}"), ""))
            continue
        missing = [name for name in ("agent_id", "user_id", "conversation_id") if not getattr(turn, name)]
        if missing:
            problems.append(Problem(f"{place}: {', '.join(missing)} missing.", ""))
    if problems:
        problems = _shortened(problems)
        problems.append(Problem("Nothing was stored.", "Correct these lines, then import again."))
        raise CommandFailed(problems)
    return count


def _turns(paths: Iterable[tuple[str, Path]], defaults: Mapping[str, str]) -> Iterator[NumberedTurn]:
    """Read the turns, each with an id that makes importing it again change nothing.

    A line that brings no id of its own is known by its content and by how many equal lines came before it.
    """
    seen: Counter[bytes] = Counter()
    for place, line in _lines(paths):
        turn = read_turn(line, defaults)
        if turn.event is None and not turn.request_id:
            digest = hashlib.sha256(repr(turn).encode()).digest()
            turn = replace(turn, request_id=f"import:{digest.hex()}:{seen[digest]}")
            seen[digest] += 1
        yield NumberedTurn(place, turn)


def _lines(paths: Iterable[tuple[str, Path]]) -> Iterator[tuple[str, str]]:
    for name, path in paths:
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{name}:{number}", line


def _store(client: MemoryClient, turns: Iterator[NumberedTurn], count: int) -> tuple[int, int, list[Problem]]:
    stored = repeated = 0
    refused: list[Problem] = []
    with item_progress(error_console()) as progress:
        task = progress.add_task("storing turns", total=count)
        while batch := list(islice(turns, BATCH_TURNS)):
            for item, result in zip(batch, _send(client, batch), strict=True):
                if isinstance(result, RefusedTurn):
                    refused.append(Problem(ended(f"{item.place}: {result.message}"), ""))
                elif result.repeated:
                    repeated += 1
                else:
                    stored += 1
            progress.advance(task, len(batch))
    return stored, repeated, refused


def _send(client: MemoryClient, batch: list[NumberedTurn]) -> list[AppendedTurn | RefusedTurn]:
    try:
        return client.append_many(item.turn for item in batch)
    except InvalidRequestError:
        # One bad turn spoils a batch; alone, each of the others is stored.
        return [_send_alone(client, item.turn) for item in batch]


def _send_alone(client: MemoryClient, turn: NewTurn) -> AppendedTurn | RefusedTurn:
    try:
        return client.append(turn)
    except InvalidRequestError as error:
        return RefusedTurn(code=error.code.value[0], reason=error.reason, message=error.message)


def _shortened(problems: list[Problem]) -> list[Problem]:
    rest = len(problems) - SHOWN_PROBLEMS
    return problems[:SHOWN_PROBLEMS] + ([Problem(f"And {rest} more like these.", "")] if rest > 0 else [])
