"""``memsidecar demo``: runs by itself, and what it shows is right."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from memsidecar.cli.demo import conversation
from tests.cli.processes import on_a_terminal
from tests.client.examples import examples

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

pytestmark = pytest.mark.usefixtures("model_directory")


async def test_it_answers_every_question_and_says_what_to_do_next(
    memsidecar: Callable[..., Awaitable[Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/untouched")
    outcome = await memsidecar("demo")
    assert outcome.code == 0, outcome.errors
    shown = outcome.output
    for number, question in enumerate(conversation.QUESTIONS, start=1):
        before, heading, after = shown.partition(f"{number}  {question.text}")
        assert heading, question
        answer = after.split("why:")[0]
        assert question.answer in " ".join(answer.split()), f"{question} was answered with {answer}"
        assert before
    assert conversation.DOCUMENT_QUESTION in shown
    assert "fourteen days" in shown
    assert "./dev test" in shown
    [(_, excerpt)] = examples("README.md", "shown by ./dev demo")
    assert without_figures(excerpt) in without_figures(shown)


def without_figures(text: str) -> str:
    """Leave out what may differ from run to run and from ranking to ranking: times, and how a score adds up."""
    text = re.sub(r"why: .*", "why:", text)
    return re.sub(r"\d+ ms|\d\.\d\d ", "", text)


async def test_it_keeps_what_it_stored_in_a_directory_of_choice(
    memsidecar: Callable[..., Awaitable[Outcome]], place: Path
) -> None:
    first = await memsidecar("demo", "--data-directory", place / "demo")
    assert "31 stored, 0 known from an earlier run" in first.output
    code, shown = await asyncio.to_thread(
        on_a_terminal, "demo", "--data-directory", place / "demo", "--stay", until="Still serving"
    )
    assert code == 0
    assert "0 stored, 31 known from an earlier run" in shown
