"""Running commands as a person would."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from memsidecar.cli.main import run
from memsidecar.postgres.embedded.temporary import make_temporary_folder, temporary_parent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    code: int
    output: str
    errors: str


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """No setting of the machine reaches a command, and nothing it does reaches the machine."""
    for name in list(os.environ):
        if name == "DATABASE_URL" or (
            name.startswith("MEMSIDECAR_") and name != "MEMSIDECAR_MODEL_DIRECTORY"
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MEMSIDECAR_DATA_DIRECTORY", str(place / "default"))
    monkeypatch.setenv("MEMSIDECAR_LISTEN", "127.0.0.1:1")


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A directory that every user may pass through, as root's Postgres needs it."""
    folder = make_temporary_folder(temporary_parent())
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def memsidecar_here(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Outcome]]:
    """Run a command in this thread: ``memsidecar_here("serve")``."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run_command(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = _code([str(argument) for argument in arguments])
        output, errors = capsys.readouterr()
        return Outcome(code, output, errors)

    yield run_command
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def memsidecar(memsidecar_here: Callable[..., Outcome]) -> Callable[..., Awaitable[Outcome]]:
    """Run a command beside the servers of the test's event loop: ``await memsidecar("recall", "where?")``."""

    async def run_command(*arguments: object) -> Outcome:
        return await asyncio.to_thread(memsidecar_here, *arguments)

    return run_command


def _code(arguments: list[str]) -> int:
    try:
        run(arguments)
    except SystemExit as end:
        return int(end.code or 0)
