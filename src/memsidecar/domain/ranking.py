"""The order of recalled turns: meaning, words, context, speaker and time in one score.

score = vector_weight * cosine
      + lexical_weight * words / best words
      - question_penalty                          if the turn asks
      + reply_credit * base of the turn before    if that one asks
      + session_prior * best base of the session
      + speaker_boost                             if the query speaks of the turn's speaker
      + date_boost                                if the turn was said in a span of time the query names
      + time_weight * preference                  if the request prefers a time

where base is the sum of the first three. "words" is BM25 (Robertson and Zaragoza 2009) over the distinct lexemes of a
turn; each lexeme of the query counts from the best place in a window of neighbours, fading with distance, and the sum
is multiplied with the share of the query's weight that was found. The defaults were chosen on a part of LoCoMo and
confirmed on the rest and on user-to-assistant chats; ``docs/ranking.md`` has the figures.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from memsidecar.domain.participants import Participants, subject
from memsidecar.domain.recall import ScorePart
from memsidecar.domain.time_expressions import named_spans

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from memsidecar.domain.recall import RankingOptions, TimePreference

SATURATION = 1.2
"""BM25's k1, at its usual value."""

LENGTH_NORMALISATION = 0.75
"""BM25's b, at its usual value."""

NEIGHBOUR_REACH = 2
"""How many turns away a neighbour's words still count."""

TOLD_AFTERWARDS = timedelta(days=1)
"""Spans that a query names are widened by this at their end: things are told after they happened."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What each part of the score is worth."""

    vector: float = 0.75
    lexical: float = 0.25
    neighbour_credit: float = 0.5
    """A word found d turns away counts ``neighbour_credit ** d``."""
    reply_credit: float = 0.2
    question_penalty: float = 0.06
    session_prior: float = 0.5
    speaker_boost: float = 0.25
    date_boost: float = 0.4
    time: float = 0.25
    session_gap: timedelta = timedelta(hours=1)


DEFAULT_WEIGHTS = Weights()


def weights_of(options: RankingOptions) -> Weights:
    """Give the defaults with what a request sets."""
    given = {
        "vector": options.vector_weight,
        "lexical": options.lexical_weight,
        "neighbour_credit": options.neighbour_credit,
        "reply_credit": options.reply_credit,
        "question_penalty": options.question_penalty,
        "session_prior": options.session_prior,
        "speaker_boost": options.speaker_boost,
        "date_boost": options.date_boost,
        "time": options.time_weight,
        "session_gap": options.session_gap,
    }
    values = {name: value for name, value in given.items() if value is not None}
    return Weights(**values)  # type: ignore[arg-type]


class Candidate(NamedTuple):
    """What ranking needs to know of a turn."""

    id: UUID
    thread: int
    """Number of its conversation among the candidates."""
    position: int
    """Place in its conversation: neighbours differ by one."""
    said_at: float
    """When it was said, in seconds since 1970."""
    speaker: str
    """Display name, or the role where there is none."""
    asks: bool
    """It ends with a question mark."""
    cosine: float
    matched: int
    """Bit n is set when lexeme n of the query occurs in it."""
    length: int
    """Distinct lexemes in it."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Statistics of the turns that were searched."""

    turns: int
    average_length: float
    document_frequencies: tuple[int, ...]
    """In how many turns each lexeme of the query occurs."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its score."""

    candidate: Candidate
    score: float
    words: float
    """BM25 of the turn and its neighbours, before it is set against the best."""
    parts: tuple[ScorePart, ...] = ()


def inverse_document_frequencies(corpus: Corpus) -> list[float]:
    """Give BM25's weight of each lexeme of the query, in the form that is never negative."""
    return [
        math.log(1 + (corpus.turns - frequency + 0.5) / (frequency + 0.5))
        for frequency in corpus.document_frequencies
    ]


def rank(
    candidates: Sequence[Candidate],
    corpus: Corpus,
    query: str,
    participants: Participants,
    *,
    now: datetime,
    limit: int,
    weights: Weights = DEFAULT_WEIGHTS,
    time_preference: TimePreference | None = None,
    explain: bool = False,
) -> list[Ranked]:
    """Order candidates, best first; ties by time, latest first, then by id.

    Args:
        candidates: In order of thread and position, neighbours of the ones that matter included.
        corpus: Statistics behind the words' weights.
        query: As it was asked.
        participants: Who spoke, as far as the query is concerned.
        now: What "last week" counts from.
        limit: How many are wanted.
        weights: What each part is worth.
        time_preference: The request's soft preference for time.
        explain: Give the parts of each score.
    """
    if not candidates:
        return []
    sessions = _sessions(candidates, weights.session_gap.total_seconds())
    words = _words(candidates, sessions, corpus, weights.neighbour_credit)
    words_share = weights.lexical / (max(words) or 1.0)
    base = [
        weights.vector * candidate.cosine
        + words_share * found
        - (weights.question_penalty if candidate.asks else 0.0)
        for candidate, found in zip(candidates, words, strict=True)
    ]
    parts: dict[str, list[float]] = {
        "reply": _replies(candidates, sessions, base, weights.reply_credit),
        "session": _best_of_session(sessions, base, weights.session_prior),
    }
    speaker = subject(query, participants)
    if speaker is not None:
        boost = weights.speaker_boost
        parts["speaker"] = [boost if candidate.speaker == speaker else 0.0 for candidate in candidates]
    spans = _told_in(query, candidates, now)
    if spans:
        parts["date"] = [
            weights.date_boost if any(start <= candidate.said_at < end for start, end in spans) else 0.0
            for candidate in candidates
        ]
    if time_preference is not None:
        parts["time"] = [
            weights.time * preferred(datetime.fromtimestamp(candidate.said_at, UTC), time_preference, now)
            for candidate in candidates
        ]
    scores = [sum(values) for values in zip(base, *parts.values(), strict=True)]
    best = heapq.nsmallest(
        limit,
        range(len(candidates)),
        key=lambda index: (-scores[index], -candidates[index].said_at, candidates[index].id),
    )
    explained = _explained(candidates, words, parts, weights, best) if explain else {}
    return [
        Ranked(candidates[index], scores[index], words[index], explained.get(index, ())) for index in best
    ]


def preferred(moment: datetime, preference: TimePreference, now: datetime) -> float:
    """Tell how far a moment fits a preference, from 0 to 1."""
    if preference.half_life is not None:
        age = abs((preference.reference or now) - moment)
        return math.pow(0.5, age / preference.half_life)
    window = preference.window
    if window is None:
        return 0.0
    start, end = window.start or moment, window.end or moment
    if start <= moment <= end:
        return 1.0
    distance = start - moment if moment < start else moment - end
    return math.pow(0.5, distance / max(end - start, timedelta(days=1)))


def _told_in(query: str, candidates: Sequence[Candidate], now: datetime) -> list[tuple[float, float]]:
    """Give the spans of time that the query names, in seconds since 1970, with the time in which things are told."""
    moments = [candidate.said_at for candidate in candidates]
    first, last = (datetime.fromtimestamp(moment, UTC) for moment in (min(moments), max(moments)))
    return [
        (start.timestamp(), (end + TOLD_AFTERWARDS).timestamp())
        for start, end in named_spans(query, first, last, now)
    ]


def _sessions(candidates: Sequence[Candidate], gap: float) -> list[int]:
    """Number the sessions: a conversation, cut where nobody spoke for the gap in seconds."""
    sessions = []
    session, thread, said_at = 0, candidates[0].thread, candidates[0].said_at
    for candidate in candidates:
        if candidate.thread != thread or candidate.said_at - said_at > gap:
            session += 1
        thread, said_at = candidate.thread, candidate.said_at
        sessions.append(session)
    return sessions


def _best_of_session(sessions: Sequence[int], base: Sequence[float], prior: float) -> list[float]:
    best: dict[int, float] = {}
    for session, value in zip(sessions, base, strict=True):
        if value > best.get(session, -math.inf):
            best[session] = value
    return [prior * best[session] for session in sessions]


def _replies(
    candidates: Sequence[Candidate], sessions: Sequence[int], base: Sequence[float], credit: float
) -> list[float]:
    """Give turns their share of the score of the turn before, where that one asks something."""
    shares = [0.0] * len(candidates)
    for index in range(1, len(candidates)):
        before = candidates[index - 1]
        if (
            before.asks
            and sessions[index - 1] == sessions[index]
            and before.position == candidates[index].position - 1
        ):
            shares[index] = credit * base[index - 1]
    return shares


def _words(
    candidates: Sequence[Candidate], sessions: Sequence[int], corpus: Corpus, neighbour_credit: float
) -> list[float]:
    frequencies = inverse_document_frequencies(corpus)
    total = sum(frequencies)
    if total == 0:
        return [0.0] * len(candidates)
    terms_of = {
        matched: [(bit, value) for bit, value in enumerate(frequencies) if matched >> bit & 1]
        for matched in {candidate.matched for candidate in candidates}
    }
    credit = [neighbour_credit**distance for distance in range(NEIGHBOUR_REACH + 1)]
    near: list[dict[int, float]] = [{} for _candidate in candidates]
    for index, candidate in enumerate(candidates):
        terms = terms_of[candidate.matched]
        if not terms:
            continue
        saturated = (SATURATION + 1) / (1 + SATURATION * _relative_length(candidate, corpus))
        for other in range(
            max(0, index - NEIGHBOUR_REACH), min(len(candidates), index + NEIGHBOUR_REACH + 1)
        ):
            distance = abs(candidate.position - candidates[other].position)
            if distance > NEIGHBOUR_REACH or sessions[other] != sessions[index]:
                continue
            share, found = saturated * credit[distance], near[other]
            for bit, frequency in terms:
                value = frequency * share
                if value > found.get(bit, 0.0):
                    found[bit] = value
    return [
        sum(found.values()) * sum(frequencies[bit] for bit in found) / total if found else 0.0
        for found in near
    ]


def _relative_length(candidate: Candidate, corpus: Corpus) -> float:
    return 1 - LENGTH_NORMALISATION + LENGTH_NORMALISATION * candidate.length / (corpus.average_length or 1.0)


def _explained(
    candidates: Sequence[Candidate],
    words: Sequence[float],
    parts: Mapping[str, Sequence[float]],
    weights: Weights,
    wanted: Sequence[int],
) -> dict[int, tuple[ScorePart, ...]]:
    """Give the parts of some scores, with raw measures, and ranks within the legs of meaning and words."""
    most = max(words) or 1.0
    cosines = [candidate.cosine for candidate in candidates]
    weight_of = {
        "reply": weights.reply_credit,
        "session": weights.session_prior,
        "speaker": weights.speaker_boost,
        "date": weights.date_boost,
        "time": weights.time,
    }
    explained = {}
    for index in wanted:
        cosine, found = cosines[index], words[index]
        asks = -1.0 if candidates[index].asks else 0.0
        context = [(name, parts[name][index] if name in parts else 0.0) for name in weight_of]
        explained[index] = (
            ScorePart("vector", cosine, cosine, weights.vector, 1 + sum(other > cosine for other in cosines)),
            ScorePart(
                "lexical",
                found,
                found / most,
                weights.lexical,
                1 + sum(other > found for other in words) if found else 0,
            ),
            ScorePart("question", asks, asks, weights.question_penalty, 0),
            *(
                ScorePart(name, share, share, weight_of[name], 0)
                for name, share in (
                    (name, value / weight_of[name] if weight_of[name] else 0.0) for name, value in context
                )
            ),
        )
    return explained
