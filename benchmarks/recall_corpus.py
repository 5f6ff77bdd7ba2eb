"""A corpus of turns that is skewed and shaped like real use.

Sizes follow power laws: of 300 tenants the largest holds about a third of the turns, and most users are small. Turns of
one conversation circle around one subject. Vectors lie where a sentence encoder puts sentences: each is a mix of the
embeddings of near sentences with noise along the directions in which those neighbours differ, never uniform noise.

The users in ``PLANTED_USERS`` are the same rows at every size of the corpus, so that a scope can be held fixed while
the table grows.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]

DIMENSIONS = 384
TENANTS = 300
PLANTED_USERS = (1, 10, 100, 1_000, 3_000)
"""Rows of each, all of the largest tenant's first agent."""
TENANT_EXPONENT = 1.4
USER_EXPONENT = 1.1
AGENT_SHARES = (0.55, 0.30, 0.12, 0.03)
TURNS_PER_USER = 40
TURNS_PER_CONVERSATION = 30
ON_SUBJECT = 0.6
"""Share of turns that stay near their conversation's subject."""
SPAN_SECONDS = 300 * 86_400.0
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Corpus:
    """Columns of equal length in order of time; tenants, agents, users and conversations are small integers."""

    tenant: Integers
    agent: Integers
    """Within its tenant."""
    user: Integers
    """Within its tenant."""
    conversation: Integers
    sentence: Integers
    """The base sentence that the turn is nearest to."""
    seconds: NDArray[np.float64]
    """Since ``EPOCH``."""
    vectors: Floats
    """(rows, 384), unit length."""

    def __len__(self) -> int:
        return len(self.tenant)


def tenant_uuid(tenant: int) -> UUID:
    """Give the id of a tenant."""
    return UUID(int=(0x7E << 120) | (0x4 << 76) | (0x8 << 60) | tenant)


def agent_uuid(tenant: int, agent: int) -> UUID:
    """Give the id of a tenant's agent."""
    return UUID(int=(0xA6 << 120) | (0x4 << 76) | (0x8 << 60) | (tenant << 8) | agent)


def turn_uuid(seconds: float, row: int) -> UUID:
    """Give a version 7 UUID: milliseconds since 1970, then the row's number where real ones are random."""
    milliseconds = int((EPOCH.timestamp() + seconds) * 1000)
    scrambled = (row * 0x9E3779B97F4A7C15) & ((1 << 62) - 1)
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (0b10 << 62) | scrambled)


def said_at(seconds: float) -> datetime:
    """Give the moment of a turn."""
    return EPOCH + timedelta(seconds=float(seconds))


def power_law(total: int, parts: int, exponent: float) -> Integers:
    """Split ``total`` into sizes of at least 1, the r-th in proportion to r ** -exponent (Zipf)."""
    weight = np.arange(1, parts + 1, dtype=np.float64) ** -exponent
    size: Integers = np.maximum(1, np.floor(total * weight / weight.sum())).astype(np.int64)
    size[0] = max(1, size[0] + total - size.sum())
    return size


def nearest_others(base: Floats, count: int) -> Integers:
    """Give (rows, count) indices of each vector's nearest others by cosine, nearest first."""
    result = np.empty((len(base), count), np.int64)
    for start in range(0, len(base), 2048):
        similarity = base[start : start + 2048] @ base.T
        similarity[np.arange(len(similarity)), np.arange(start, start + len(similarity))] = -2.0
        top = np.argpartition(-similarity, count, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(similarity, top, 1), axis=1)
        result[start : start + 2048] = np.take_along_axis(top, order, 1)
    return result


def vectors_near(base: Floats, near: Integers, sentences: Integers, random: np.random.Generator) -> Floats:
    """Make one new unit vector near each of some base vectors.

    A step of up to half the way towards one neighbour, Gaussian noise along eight local directions, and a little noise
    in all directions, so that nothing is exactly of low rank.
    """
    result = np.empty((len(sentences), DIMENSIONS), np.float32)
    for start in range(0, len(sentences), 20_000):
        some = sentences[start : start + 20_000]
        centre = base[some]
        step = random.uniform(0.0, 0.5, (len(some), 1)).astype(np.float32)
        vectors = centre + step * (base[near[some, random.integers(0, 8, len(some))]] - centre)
        for direction in range(8):
            gain = random.normal(0.0, 0.12, (len(some), 1)).astype(np.float32)
            vectors += gain * (base[near[some, direction]] - centre)
        vectors += random.normal(0.0, 0.006, vectors.shape).astype(np.float32)
        result[start : start + 20_000] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return result


def generate(rows: int, base: Floats, *, seed: int = 7) -> Corpus:
    """Make a corpus; the same for the same arguments.

    Args:
        rows: How many turns, more than the planted users have.
        base: (sentences, 384) unit vectors of real sentences.
        seed: Of all randomness.
    """
    near = nearest_others(base, 64)
    planted = _planted(base, near, seed)
    random = np.random.default_rng(seed + rows)
    parts: list[tuple[Integers, ...]] = []
    next_conversation = int(planted.conversation.max()) + 1
    for tenant, size in enumerate(power_law(max(TENANTS, rows - len(planted)), TENANTS, TENANT_EXPONENT)):
        users = power_law(int(size), max(1, int(size) // TURNS_PER_USER), USER_EXPONENT)
        user = np.repeat(np.arange(len(users)), users) + len(PLANTED_USERS)
        agent = random.choice(len(AGENT_SHARES), len(users), p=AGENT_SHARES)[user - len(PLANTED_USERS)]
        starts = random.random(int(size)) < 1 / TURNS_PER_CONVERSATION
        starts[np.flatnonzero(np.diff(user)) + 1] = True
        local = np.cumsum(starts)
        subjects = random.integers(0, len(base), int(local[-1]) + 1)
        parts.append((np.full(int(size), tenant), agent, user, next_conversation + local, subjects[local]))
        next_conversation += int(local[-1]) + 1
    tenants, agents, users_, conversations, subjects_ = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    sentences = _spoken(subjects_, near, random)
    grown = Corpus(
        tenants,
        agents,
        users_,
        conversations,
        sentences,
        random.uniform(0, SPAN_SECONDS, len(sentences)),
        vectors_near(base, near, sentences, random),
    )
    merged = [
        np.concatenate((getattr(planted, each.name), getattr(grown, each.name))) for each in fields(Corpus)
    ]
    order = np.argsort(merged[5], kind="stable")
    return Corpus(*(column[order] for column in merged))


def _spoken(subjects: Integers, near: Integers, random: np.random.Generator) -> Integers:
    on_subject = near[subjects, random.integers(0, near.shape[1], len(subjects))]
    strays = random.integers(0, len(near), len(subjects))
    spoken: Integers = np.where(random.random(len(subjects)) < ON_SUBJECT, on_subject, strays)
    return spoken


def _planted(base: Floats, near: Integers, seed: int) -> Corpus:
    random = np.random.default_rng(seed)
    size = sum(PLANTED_USERS)
    user = np.repeat(np.arange(len(PLANTED_USERS)), PLANTED_USERS)
    conversation = np.arange(size) // TURNS_PER_CONVERSATION + user * 1000
    subjects = random.integers(0, len(base), int(conversation.max()) + 1)
    sentences = _spoken(subjects[conversation], near, random)
    zero = np.zeros(size, np.int64)
    return Corpus(
        zero,
        zero,
        user,
        conversation,
        sentences,
        random.uniform(0, SPAN_SECONDS, size),
        vectors_near(base, near, sentences, random),
    )


_WHO = (
    "Ana", "Tom", "the platform team", "our customer in Oslo", "Priya", "the night shift", "Lucas", "finance",
    "my sister", "the new intern", "legal", "the vendor", "Mei", "the on-call engineer", "the landlord",
    "our biggest account",
)  # fmt: skip
_DID = (
    "asked me to move {thing} to {when}", "said that {thing} keeps failing since {when}", "wants {thing} before {when}",
    "is worried about {thing} and called twice {when}", "finally signed off {thing} {when}",
    "forgot about {thing}, so it waits until {when}", "paid too much for {thing} {when}",
    "will present {thing} {when}", "broke {thing} while cleaning up {when}",
    "loved {thing} and ordered more for {when}",
    "cannot find {thing} that we agreed on {when}", "thinks {thing} should be cheaper by {when}",
)  # fmt: skip
_THING = (
    "the invoice for the spring fair", "the login page", "the trip to Lisbon", "the database migration",
    "a birthday cake",
    "the quarterly report", "the coffee machine", "the backup job", "her piano lessons", "the rental contract",
    "the mobile app's dark mode", "the payment gateway", "the garden fence", "the marathon training plan",
    "ticket OPS-{n}", "the onboarding course", "the thermostat in room {n}", "order {n}", "the vaccination card",
    "the search ranking", "the sourdough starter", "the budget line {n}", "the camera lens", "the firewall rule",
    "the choir rehearsal",
)  # fmt: skip
_WHEN = (
    "Monday", "last night", "the end of the month", "the holidays", "tomorrow morning", "the audit", "week {n}",
    "the summer break", "the release", "this afternoon", "the next board meeting", "my birthday",
)  # fmt: skip


def templated_sentences(count: int, seed: int) -> list[str]:
    """Write distinct everyday sentences, for a corpus that needs no data set."""
    random = np.random.default_rng(seed)
    sentences: dict[str, None] = {}
    while len(sentences) < count:
        number = str(int(random.integers(1, 999)))
        thing = _THING[random.integers(len(_THING))].format(n=number)
        when = _WHEN[random.integers(len(_WHEN))].format(n=number)
        said = _DID[random.integers(len(_DID))].format(thing=thing, when=when)
        sentences[f"{_WHO[random.integers(len(_WHO))]} {said}."] = None
    return list(sentences)
