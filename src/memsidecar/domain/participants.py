"""Whom a query speaks of: the people who take part in the turns it searches."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memsidecar.domain.turns import Role

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Participants:
    """Who spoke in a scope."""

    names: tuple[str, ...] = ()
    """Display names that occur in the query; others do not matter to it."""
    roles: frozenset[Role] = frozenset()
    """Roles of all turns of the scope."""


_APOSTROPHE = "['\u2019]"
_PRONOUN = re.compile(
    rf"(?<!\w)(?:(?P<user>i|i'm|i've|i'd|i'll|me|my|mine|we|us|our|ours|the user(?:{_APOSTROPHE}s)?)"
    rf"|(?P<assistant>you|your|yours|the assistant(?:{_APOSTROPHE}s)?))(?!\w)",
    re.IGNORECASE,
)


def _mentions(query: str, names: Sequence[str]) -> list[tuple[int, int, str]]:
    """Find (start, end, name) of each name in the query, in order; longer names win over their parts."""
    if not names:
        return []
    by_folded = {name.casefold(): name for name in names}
    alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    pattern = re.compile(rf"(?<!\w)({alternatives})(?:{_APOSTROPHE}s)?(?!\w)", re.IGNORECASE)
    return [
        (match.start(), match.end(), by_folded.get(match[1].casefold(), match[1]))
        for match in pattern.finditer(query)
    ]


def spoken_query(query: str, participants: Participants) -> str:
    """Put the query as its subject would say it: names of participants become "I".

    A name in the embedded text pulls up turns that address the person, where what is wanted is what the person said,
    and people say "I" of themselves.
    """
    for start, end, _name in reversed(_mentions(query, participants.names)):
        query = f"{query[:start]}I{query[end:]}"
    return query


def subject(query: str, participants: Participants) -> str | None:
    """Give the name, or the role, of the participant the query speaks of first; None when it names nobody.

    Pronouns tell the user from the assistant where both take part.
    """
    named = _mentions(query, participants.names)
    if named:
        return named[0][2]
    if {Role.USER, Role.ASSISTANT} <= participants.roles:
        match = _PRONOUN.search(query)
        if match:
            return Role.USER.value if match["user"] else Role.ASSISTANT.value
    return None
