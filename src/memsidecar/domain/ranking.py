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

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from memsidecar.domain.participants import Participants, subject
from memsidecar.domain.recall import ScorePart
from memsidecar.domain.time_expressions import named_spans

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
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


@dataclass(frozen=True, slots=True)
class Candidate:
    """What ranking needs to know of a turn."""

    id: UUID
    thread: int
    """Number of its conversation among the candidates."""
    position: int
    """Place in its conversation: neighbours differ by one."""
    occurred_at: datetime
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
    """A candidate with its score and what it is made of."""

    candidate: Candidate
    score: float
    parts: Mapping[str, float]
    words: float


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
    weights: Weights = DEFAULT_WEIGHTS,
    time_preference: TimePreference | None = None,
) -> list[Ranked]:
    """Order candidates, best first; ties by time, latest first, then by id.

    Args:
        candidates: In order of thread and position, neighbours of the ones that matter included.
        corpus: Statistics behind the words' weights.
        query: As it was asked.
        participants: Who spoke, as far as the query is concerned.
        now: What "last week" counts from.
        weights: What each part is worth.
        time_preference: The request's soft preference for time.
    """
    if not candidates:
        return []
    sessions = _sessions(candidates, weights.session_gap)
    words = _words(candidates, sessions, corpus, weights.neighbour_credit)
    most = max(words) or 1.0
    base = [
        weights.vector * candidate.cosine
        + weights.lexical * found / most
        - (weights.question_penalty if candidate.asks else 0.0)
        for candidate, found in zip(candidates, words, strict=True)
    ]
    best: dict[int, float] = {}
    for session, value in zip(sessions, base, strict=True):
        best[session] = max(value, best.get(session, value))
    speaker = subject(query, participants)
    first = min(candidate.occurred_at for candidate in candidates)
    last = max(candidate.occurred_at for candidate in candidates)
    spans = named_spans(query, first, last, now)
    ranked = []
    for index, candidate in enumerate(candidates):
        parts = {
            "vector": weights.vector * candidate.cosine,
            "lexical": weights.lexical * words[index] / most,
            "question": -weights.question_penalty if candidate.asks else 0.0,
            "reply": weights.reply_credit * _asked_before(candidates, sessions, base, index),
            "session": weights.session_prior * best[sessions[index]],
            "speaker": weights.speaker_boost if candidate.speaker == speaker else 0.0,
            "date": weights.date_boost
            if any(start <= candidate.occurred_at < end + TOLD_AFTERWARDS for start, end in spans)
            else 0.0,
        }
        if time_preference is not None:
            parts["time"] = weights.time * preferred(candidate.occurred_at, time_preference, now)
        ranked.append(Ranked(candidate, sum(parts.values()), parts, words[index]))
    ranked.sort(key=lambda each: (-each.score, -each.candidate.occurred_at.timestamp(), each.candidate.id))
    return ranked


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


def _sessions(candidates: Sequence[Candidate], gap: timedelta) -> list[int]:
    """Number the sessions: a conversation, cut where nobody spoke for the gap."""
    sessions = [0] * len(candidates)
    for index in range(1, len(candidates)):
        before, candidate = candidates[index - 1], candidates[index]
        starts = before.thread != candidate.thread or candidate.occurred_at - before.occurred_at > gap
        sessions[index] = sessions[index - 1] + starts
    return sessions


def _words(
    candidates: Sequence[Candidate], sessions: Sequence[int], corpus: Corpus, neighbour_credit: float
) -> list[float]:
    frequencies = inverse_document_frequencies(corpus)
    total = sum(frequencies)
    if total == 0:
        return [0.0] * len(candidates)
    bits = [
        [index for index in range(len(frequencies)) if candidate.matched >> index & 1]
        for candidate in candidates
    ]
    credit = [neighbour_credit**distance for distance in range(NEIGHBOUR_REACH + 1)]
    near: list[dict[int, float]] = [{} for _candidate in candidates]
    for index, candidate in enumerate(candidates):
        if not bits[index]:
            continue
        saturated = (SATURATION + 1) / (1 + SATURATION * _relative_length(candidate, corpus))
        for other in range(
            max(0, index - NEIGHBOUR_REACH), min(len(candidates), index + NEIGHBOUR_REACH + 1)
        ):
            distance = abs(candidate.position - candidates[other].position)
            if distance > NEIGHBOUR_REACH or sessions[other] != sessions[index]:
                continue
            share, found = saturated * credit[distance], near[other]
            for bit in bits[index]:
                found[bit] = max(found.get(bit, 0.0), frequencies[bit] * share)
    return [
        sum(found.values()) * sum(frequencies[bit] for bit, value in found.items() if value) / total
        for found in near
    ]


def _relative_length(candidate: Candidate, corpus: Corpus) -> float:
    return 1 - LENGTH_NORMALISATION + LENGTH_NORMALISATION * candidate.length / (corpus.average_length or 1.0)


def _asked_before(
    candidates: Sequence[Candidate], sessions: Sequence[int], base: Sequence[float], index: int
) -> float:
    """Give the base score of the turn before, when it asks something and this one may be the reply."""
    if index == 0 or sessions[index - 1] != sessions[index]:
        return 0.0
    before = candidates[index - 1]
    return base[index - 1] if before.asks and before.position == candidates[index].position - 1 else 0.0


def explain(ranked: Sequence[Ranked], weights: Weights) -> dict[UUID, tuple[ScorePart, ...]]:
    """Give the parts of each score, with raw measures, and ranks within the legs of meaning and words."""
    by_meaning = _ranks(ranked, [each.candidate.cosine for each in ranked])
    by_words = _ranks(ranked, [each.words for each in ranked])
    weight_of = {
        "vector": weights.vector,
        "lexical": weights.lexical,
        "question": weights.question_penalty,
        "reply": weights.reply_credit,
        "session": weights.session_prior,
        "speaker": weights.speaker_boost,
        "date": weights.date_boost,
        "time": weights.time,
    }
    explained = {}
    for each in ranked:
        raw = {"vector": each.candidate.cosine, "lexical": each.words}
        ranks = {
            "vector": by_meaning[each.candidate.id],
            "lexical": by_words[each.candidate.id] if each.words else 0,
        }
        explained[each.candidate.id] = tuple(
            ScorePart(
                name=name,
                raw=raw.get(name, value / weight_of[name] if weight_of[name] else 0.0),
                normalized=value / weight_of[name] if weight_of[name] else 0.0,
                weight=weight_of[name],
                rank=ranks.get(name, 0),
            )
            for name, value in each.parts.items()
        )
    return explained


def _ranks(ranked: Sequence[Ranked], values: Sequence[float]) -> dict[UUID, int]:
    order = sorted(range(len(ranked)), key=lambda index: -values[index])
    return {ranked[index].candidate.id: place for place, index in enumerate(order, start=1)}
