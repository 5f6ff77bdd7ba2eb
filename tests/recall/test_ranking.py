"""What each part of the score does, on candidates made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from memsidecar.domain.participants import Participants
from memsidecar.domain.ranking import Candidate, Corpus, Ranked, Weights, preferred, rank
from memsidecar.domain.recall import TimePreference
from memsidecar.domain.turns import Role, TimeRange

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CORPUS = Corpus(100, 10.0, (5, 50))


def candidate(number: int, **fields: Any) -> Candidate:
    values: dict[str, Any] = {
        "id": UUID(int=number),
        "thread": 0,
        "position": number,
        "said_at": NOW.timestamp() + number,
        "speaker": "Ann",
        "asks": False,
        "cosine": 0.5,
        "matched": 0,
        "length": 10,
        **fields,
    }
    return Candidate(**values)


def ordered(
    *candidates: Candidate, query: str = "?", participants: Participants | None = None, **options: Any
) -> list[Ranked]:
    return rank(
        candidates,
        CORPUS,
        query,
        participants or Participants(),
        now=NOW,
        **{"limit": 10, "explain": True, **options},
    )


def numbers(ranked: list[Ranked]) -> list[int]:
    return [each.candidate.id.int for each in ranked]


def part(ranked: Ranked, name: str) -> float:
    return next(each.normalized * each.weight for each in ranked.parts if each.name == name)


def test_a_score_is_the_sum_of_its_explained_parts() -> None:
    ranked = ordered(
        candidate(1, asks=True, matched=3),
        candidate(2, matched=1, cosine=0.3),
        candidate(9, thread=1, speaker="Bob"),
        query="what did Ann do today",
        participants=Participants(names=("Ann",)),
        time_preference=TimePreference(half_life=timedelta(days=1)),
    )
    for each in ranked:
        assert sum(score.normalized * score.weight for score in each.parts) == pytest.approx(each.score)


def test_a_rare_word_outweighs_a_common_one_and_neighbours_share_it() -> None:
    ranked = ordered(
        candidate(1, matched=1),
        candidate(2, thread=1, matched=2),
        candidate(3, thread=2, position=1),
        candidate(4, thread=2, position=2, matched=1),
        weights=Weights(session_prior=0),
    )
    words = {each.candidate.id.int: each.words for each in ranked}
    assert words[1] == words[4] > words[2] > 0
    assert words[3] == pytest.approx(words[4] / 2)


def test_turns_after_a_silence_are_another_session() -> None:
    near = candidate(1, cosine=0.9)
    late = candidate(2, said_at=near.said_at + 3601)
    soon = candidate(2, said_at=near.said_at + 3599)
    assert part(ordered(near, late)[1], "session") < part(ordered(near, soon)[1], "session")


def test_a_reply_shares_the_score_of_its_question() -> None:
    asked = candidate(1, asks=True, cosine=0.9)
    ranked = {each.candidate.id.int: each for each in ordered(asked, candidate(2), candidate(4))}
    assert part(ranked[2], "reply") == pytest.approx(0.2 * (0.75 * 0.9 - 0.06))
    assert part(ranked[4], "reply") == 0
    assert part(ranked[1], "question") == pytest.approx(-0.06)


def test_a_pronoun_tells_user_from_assistant_only_where_both_speak() -> None:
    turns = (candidate(1, speaker="assistant"), candidate(2, thread=1, speaker="user"))
    both = Participants(roles=frozenset({Role.USER, Role.ASSISTANT}))
    assert numbers(ordered(*turns, query="where do I live", participants=both)) == [2, 1]
    assert numbers(ordered(*turns, query="what did you recommend", participants=both)) == [1, 2]
    alone = ordered(*turns, query="where do I live", participants=Participants(roles=frozenset({Role.USER})))
    assert [part(each, "speaker") for each in alone] == [0, 0]


def test_a_date_in_the_query_prefers_turns_said_then_or_the_day_after() -> None:
    may = datetime(2026, 5, 8, 12, tzinfo=UTC).timestamp()
    day = 86_400
    turns = [candidate(number, thread=number, said_at=may + number * day) for number in range(5)]
    ranked = ordered(*turns, query="what happened on 8 May 2026?")
    assert {each.candidate.id.int for each in ranked if part(each, "date")} == {0, 1}


def test_ties_go_to_the_latest_then_by_id_and_the_limit_cuts() -> None:
    same = {"said_at": NOW.timestamp()}
    turns = [candidate(number, thread=number, **same) for number in (5, 3, 4)]
    assert numbers(ordered(*turns, candidate(9, thread=9))) == [9, 3, 4, 5]
    assert numbers(ordered(*turns, candidate(9, thread=9), limit=2)) == [9, 3]
    assert ordered() == []


def test_a_half_life_halves_on_both_sides_and_a_window_fades_outside() -> None:
    half_life = TimePreference(half_life=timedelta(days=2), reference=NOW)
    assert preferred(NOW, half_life, NOW) == 1
    assert preferred(NOW - timedelta(days=2), half_life, NOW) == pytest.approx(0.5)
    assert preferred(NOW + timedelta(days=4), half_life, NOW) == pytest.approx(0.25)
    window = TimePreference(window=TimeRange(NOW - timedelta(days=10), NOW))
    assert preferred(NOW - timedelta(days=3), window, NOW) == 1
    assert preferred(NOW + timedelta(days=10), window, NOW) == pytest.approx(0.5)
    assert 0 < preferred(NOW - timedelta(days=25), window, NOW) < 0.5


def test_ranks_of_the_legs_count_from_the_best_candidate() -> None:
    ranked = ordered(
        candidate(1, cosine=0.9), candidate(5, thread=1, cosine=0.1, matched=1), candidate(9, thread=2)
    )
    ranks = {
        each.candidate.id.int: {score.name: score.rank for score in each.parts if score.rank}
        for each in ranked
    }
    assert ranks == {1: {"vector": 1}, 5: {"vector": 3, "lexical": 1}, 9: {"vector": 2}}
