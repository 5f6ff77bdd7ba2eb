"""Every failure as one sentence that says what is wrong, and one that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memsidecar.domain.errors import (
    DatabaseUnavailable,
    DomainError,
    InvalidInput,
    Problem,
    SetupError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class CommandFailed(Exception):
    """A command cannot do what it was asked to."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(" ".join(f"{problem.what} {problem.remedy}" for problem in problems))
        self.problems = tuple(problems)


def problems_of(error: DomainError) -> list[Problem]:
    """Say what a failure of this process means to the person at the terminal."""
    if isinstance(error, SetupError):
        return [error.problem]
    if isinstance(error, InvalidInput):
        return [Problem(ended(f"{each.field} {each.description}"), "") for each in error.violations]
    return [Problem(sentence(error.message), _REMEDIES.get(type(error), ""))]


_REMEDIES: dict[type[DomainError], str] = {
    DatabaseUnavailable: (
        "Check that the database runs and that the database URL names the right host and port."
    ),
}


def sentence(text: str) -> str:
    """Start with a capital letter and end with a full stop."""
    text = text.strip()
    return ended(text[:1].upper() + text[1:])


def ended(text: str) -> str:
    """End with a full stop; for a text that starts with a name, which keeps its letters."""
    text = text.rstrip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
