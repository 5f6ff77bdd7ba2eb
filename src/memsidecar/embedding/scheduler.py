"""Decides what is embedded next: groups, turns, duplicates, abandoned work and refusals. Runs nothing itself.

Nothing waits for a group to fill: whoever is free takes what is there, up to a number of word pieces. While
nobody is free texts pile up and the next group is larger, which is when grouping pays.

Owners of texts, the tenants, take turns: one that queues a thousand texts does not hold up the one text of another. And
nothing is shared between them, so that nobody can tell from a quick answer what others have asked.

Not safe across threads by itself: the engine calls it under its lock.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from memsidecar.domain.embedding import MAX_WORD_PIECES, Embedding
from memsidecar.domain.errors import EmbeddingOverloaded

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Sequence
    from uuid import UUID

GROUP_TOKENS: Final = 256
"""Word pieces in one run. A larger group gains nothing per word piece and keeps everybody in it waiting."""

LENGTH_SPREAD: Final = 16
"""Word pieces by which lengths in one run may differ. Attention runs on the padded shape: padding a text by so many
costs about as much as a run of its own would."""

_LOOK_AHEAD: Final = 32
"""Queued texts looked at to fill a group: by so many runs at most can shorter or longer ones be put off."""

_BYTES_PER_TOKEN: Final = 4.0
"""English prose has 4 to 4.5 bytes of UTF-8 to a word piece, Chinese 3."""

_PATIENCE_FOR_ALL: Final = 4
"""A queue this many times the lane's patience long takes nothing more, however little of it is the caller's own."""

_SMOOTHING: Final = 0.05
"""Weight of the newest group in the running mean of the speed."""


def estimate_tokens(text: str) -> int:
    """Estimate how many word pieces the model will read of a text, without tokenising it: 3 to 256."""
    head = text[: MAX_WORD_PIECES * 8]
    return min(MAX_WORD_PIECES, 3 + int(len(head.encode(errors="replace")) / _BYTES_PER_TOKEN))


@dataclass(eq=False, slots=True)
class Call:
    """One caller waiting for the embeddings of one or more texts."""

    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[list[Embedding]]
    embeddings: list[Embedding | None]
    deadline: float
    """``time.monotonic()`` after which nobody wants the answer."""
    owner: UUID | None = None
    """The tenant whose texts they are."""


@dataclass(eq=False, slots=True)
class Work:
    """A text to embed, and everybody who waits for it."""

    owner: UUID | None
    text: str
    tokens: int
    """Estimated word pieces."""
    queued_at: float
    """``time.monotonic()``."""
    waiting: list[tuple[Call, int]] = field(default_factory=list)
    """Callers, each with the position of the text in its call."""
    started: bool = False


class LaneQueue:
    """Texts of one lane, first come first served within each owner.

    Args:
        workers: How many groups of this lane may run at the same time.
        patience: A call is refused when the texts that run before its own would take longer than this.
        seconds_per_token: First guess of the time a worker takes for one word piece; measured from then on.
    """

    def __init__(self, *, workers: int, patience: timedelta, seconds_per_token: float) -> None:
        self._workers = workers
        self._patience_seconds = patience.total_seconds()
        self._seconds_per_token = seconds_per_token
        self._queues: OrderedDict[UUID | None, deque[Work]] = OrderedDict()
        self._tokens: Counter[UUID | None] = Counter()
        self._pending: dict[tuple[UUID | None, str], Work] = {}
        self._idle = workers
        self.queued_tokens = 0
        self.queued_texts = 0

    @property
    def wait_seconds(self) -> float:
        """Estimate how long the texts queued now will take to be started."""
        return self.queued_tokens * self._seconds_per_token / self._workers

    def wait_seconds_of(self, owner: UUID | None) -> float:
        """Estimate how long a new text of an owner will wait: for its own before it, and as many of each other's."""
        own = self._tokens[owner]
        before = sum(min(tokens, own) for tokens in self._tokens.values())
        return before * self._seconds_per_token / self._workers

    def submit(self, call: Call, texts: Sequence[tuple[int, str]], now: float) -> int:
        """Queue the texts of a call, given with their positions in it.

        A text that is queued or running for the same owner is joined. A call is taken whole or not at all, and
        one that finds an empty queue is always taken.

        Returns:
            How many texts are new to the queue.

        Raises:
            EmbeddingOverloaded: The queue is longer than the lane's patience. It says in how long half of that
                will be left.
        """
        self._refuse_if_overloaded(call.owner, texts)
        added = 0
        for position, text in texts:
            work = self._pending.get((call.owner, text))
            if work is None:
                work = Work(owner=call.owner, text=text, tokens=estimate_tokens(text), queued_at=now)
                self._pending[call.owner, text] = work
                self._queues.setdefault(call.owner, deque()).append(work)
                self._tokens[call.owner] += work.tokens
                self.queued_tokens += work.tokens
                self.queued_texts += 1
                added += 1
            work.waiting.append((call, position))
        return added

    def _refuse_if_overloaded(self, owner: UUID | None, texts: Sequence[tuple[int, str]]) -> None:
        excess = max(
            self.wait_seconds_of(owner) - self._patience_seconds,
            self.wait_seconds - self._patience_seconds * _PATIENCE_FOR_ALL,
        )
        if excess > 0 and not all((owner, text) in self._pending for _, text in texts):
            raise EmbeddingOverloaded(retry_after=timedelta(seconds=excess + self._patience_seconds / 2))

    def withdraw(self, call: Call, texts: Iterable[str]) -> int:
        """Forget a caller; what nobody else waits for is never run unless it has started. Gives how many."""
        dropped = 0
        for text in texts:
            work = self._pending.get((call.owner, text))
            if work is None:
                continue
            work.waiting = [(waiting, position) for waiting, position in work.waiting if waiting is not call]
            if not work.waiting and not work.started:
                self._forget(work)
                dropped += 1
        return dropped

    def take_group(self, now: float) -> tuple[list[Work], list[Call]]:
        """Take the texts to run next; the caller becomes busy if there are any, until ``finish``.

        The first text of the owner whose turn it is is among them, with those nearest to it in length. When several
        workers are free each takes its part of what is queued.

        Returns:
            The group, perhaps empty, and the calls whose deadline has passed, whose texts are dropped.
        """
        budget = min(GROUP_TOKENS, math.ceil(self.queued_tokens / max(self._idle, 1)))
        waiting, late = self._look_ahead(now)
        group: list[Work] = []
        tokens = shortest = longest = 0
        for work in sorted(waiting, key=lambda work: abs(work.tokens - waiting[0].tokens)):
            reach = (min(shortest or work.tokens, work.tokens), max(longest, work.tokens))
            if group and (tokens + work.tokens > budget or reach[1] - reach[0] > LENGTH_SPREAD):
                break
            group.append(work)
            tokens, (shortest, longest) = tokens + work.tokens, reach
        for work in group:
            work.started = True
            self._uncount(work)
        for work in reversed(waiting):
            if not work.started:
                self._queues.setdefault(work.owner, deque()).appendleft(work)
                self._queues.move_to_end(work.owner, last=False)
        self._idle -= bool(group)
        return group, late

    def _look_ahead(self, now: float) -> tuple[list[Work], list[Call]]:
        """Take the next texts off the queues, owner by owner, and drop what nobody wants any more."""
        waiting: list[Work] = []
        late: list[Call] = []
        while self._queues and len(waiting) < _LOOK_AHEAD:
            work = self._next()
            late += self._drop_late(work, now)
            if work.waiting:
                waiting.append(work)
        return waiting, late

    def finish(self, group: Sequence[Work], seconds: float) -> None:
        """Say that a group was run, well or badly, in so many seconds."""
        self._idle += 1
        for work in group:
            del self._pending[work.owner, work.text]
        newest = seconds / sum(work.tokens for work in group)
        self._seconds_per_token += _SMOOTHING * (newest - self._seconds_per_token)

    def drain(self) -> list[Call]:
        """Drop everything queued; gives the calls that waited for it."""
        queued = [work for queue in self._queues.values() for work in queue]
        calls = {call: None for work in queued for call, _ in work.waiting}
        for work in queued:
            if work.waiting:
                self._forget(work)
        self._queues.clear()
        return list(calls)

    def _next(self) -> Work:
        """Take the first text of the owner whose turn it is."""
        owner, queue = next(iter(self._queues.items()))
        work = queue.popleft()
        if queue:
            self._queues.move_to_end(owner)
        else:
            del self._queues[owner]
        return work

    def _drop_late(self, work: Work, now: float) -> list[Call]:
        late = [call for call, _ in work.waiting if call.deadline <= now]
        if late:
            work.waiting = [(call, position) for call, position in work.waiting if call.deadline > now]
            if not work.waiting:
                self._forget(work)
        return late

    def _forget(self, work: Work) -> None:
        # It stays in the queue as an empty shell, which take_group passes over.
        del self._pending[work.owner, work.text]
        self._uncount(work)

    def _uncount(self, work: Work) -> None:
        self.queued_tokens -= work.tokens
        self.queued_texts -= 1
        self._tokens[work.owner] -= work.tokens
        if not self._tokens[work.owner]:
            del self._tokens[work.owner]
