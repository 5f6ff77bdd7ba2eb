"""What runs next, decided without running anything."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from memsidecar.domain.errors import EmbeddingOverloaded
from memsidecar.embedding.scheduler import GROUP_TOKENS, Call, LaneQueue, Work, estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

ACME, OTHER, THIRD = UUID(int=1), UUID(int=2), UUID(int=3)
SHORT = "a few words "
LONG = "many words " * 100


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def queue() -> LaneQueue:
    """One worker at a millisecond per word piece, patient for a second: a thousand word pieces."""
    return LaneQueue(workers=1, patience=timedelta(seconds=1), seconds_per_token=0.001)


def submit(
    queue: LaneQueue,
    loop: asyncio.AbstractEventLoop,
    *texts: str,
    deadline: float = float("inf"),
    now: float = 0,
    owner: UUID | None = None,
) -> Call:
    call = Call(
        loop=loop,
        answer=loop.create_future(),
        embeddings=[None] * len(texts),
        deadline=deadline,
        owner=owner,
    )
    queue.submit(call, list(enumerate(texts)), now)
    return call


def texts(group: list[Work]) -> list[str]:
    return [work.text for work in group]


def take(queue: LaneQueue, now: float = 0) -> list[str]:
    group, _ = queue.take_group(now)
    if group:
        queue.finish(group, 0.001 * sum(work.tokens for work in group))
    return texts(group)


def test_what_waits_together_runs_together_in_order(
    queue: LaneQueue, loop: asyncio.AbstractEventLoop
) -> None:
    submit(queue, loop, "first", "second")
    submit(queue, loop, "third")
    assert take(queue) == ["first", "second", "third"]
    assert take(queue) == []
    assert (queue.queued_texts, queue.queued_tokens) == (0, 0)


def test_a_group_is_bounded_by_word_pieces_not_by_texts(
    queue: LaneQueue, loop: asyncio.AbstractEventLoop
) -> None:
    submit(queue, loop, *(f"{SHORT * 3}{number}" for number in range(100)))
    group = take(queue)
    assert sum(map(estimate_tokens, group)) <= GROUP_TOKENS
    assert sum(map(estimate_tokens, group)) > GROUP_TOKENS * 0.9
    submit(queue, loop, LONG, LONG + "!")
    while queue.queued_texts > 2:
        take(queue)
    assert take(queue) == [LONG]
    assert take(queue) == [LONG + "!"]


def test_texts_of_like_lengths_share_a_run(queue: LaneQueue, loop: asyncio.AbstractEventLoop) -> None:
    middling = "some twenty words " * 6
    submit(queue, loop, SHORT, middling, f"{SHORT}1", f"{middling}1", f"{SHORT}2")
    assert take(queue) == [SHORT, f"{SHORT}1", f"{SHORT}2"]
    assert take(queue) == [middling, f"{middling}1"]


def test_a_long_text_is_not_overtaken_for_ever(queue: LaneQueue, loop: asyncio.AbstractEventLoop) -> None:
    submit(queue, loop, SHORT, LONG, *(f"{SHORT}{number}" for number in range(8)))
    assert LONG not in take(queue)
    assert take(queue)[0] == LONG


def test_free_workers_share_what_is_queued(loop: asyncio.AbstractEventLoop) -> None:
    queue = LaneQueue(workers=2, patience=timedelta(seconds=1), seconds_per_token=0.001)
    submit(queue, loop, *(f"{SHORT}{number}" for number in range(8)))
    first, _ = queue.take_group(0)
    second, _ = queue.take_group(0)
    assert (len(first), len(second)) == (4, 4)


def test_a_text_in_flight_is_joined_whether_queued_or_running(
    queue: LaneQueue, loop: asyncio.AbstractEventLoop
) -> None:
    calls = [submit(queue, loop, "same"), submit(queue, loop, "same")]
    group, _ = queue.take_group(0)
    calls.append(submit(queue, loop, "same"))
    assert texts(group) == ["same"]
    assert [call for call, _ in group[0].waiting] == calls
    queue.finish(group, 0.01)
    submit(queue, loop, "same")
    assert take(queue) == ["same"]


def test_what_nobody_waits_for_is_never_run(queue: LaneQueue, loop: asyncio.AbstractEventLoop) -> None:
    gone, staying = submit(queue, loop, "shared", "gone"), submit(queue, loop, "shared")
    assert queue.withdraw(gone, ["shared", "gone"]) == 1
    group, _ = queue.take_group(0)
    assert texts(group) == ["shared"]
    assert [call for call, _ in group[0].waiting] == [staying]
    assert (queue.queued_texts, queue.queued_tokens) == (0, 0)


def test_what_was_withdrawn_can_be_asked_for_again(queue: LaneQueue, loop: asyncio.AbstractEventLoop) -> None:
    queue.withdraw(submit(queue, loop, "back and forth"), ["back and forth"])
    submit(queue, loop, "back and forth")
    assert take(queue) == ["back and forth"]
    assert take(queue) == []


def test_what_is_too_late_is_never_run(queue: LaneQueue, loop: asyncio.AbstractEventLoop) -> None:
    late = submit(queue, loop, "late", deadline=5)
    submit(queue, loop, "in time", deadline=15)
    group, dropped = queue.take_group(10)
    assert texts(group) == ["in time"]
    assert dropped == [late]


def test_past_its_patience_a_lane_refuses_with_the_time_to_come_back(
    queue: LaneQueue, loop: asyncio.AbstractEventLoop
) -> None:
    for number in range(4):
        submit(queue, loop, f"{LONG}{number}")
    with pytest.raises(EmbeddingOverloaded) as refusal:
        submit(queue, loop, "one too many")
    assert refusal.value.retry_after.total_seconds() == pytest.approx(4 * 0.256 - 0.5)
    assert queue.queued_texts == 4


def test_a_refused_call_leaves_nothing_behind_and_joining_is_never_refused(
    queue: LaneQueue, loop: asyncio.AbstractEventLoop
) -> None:
    submit(queue, loop, *(f"{LONG}{number}" for number in range(5)))
    with pytest.raises(EmbeddingOverloaded):
        submit(queue, loop, f"{LONG}0", "new")
    assert queue.queued_texts == 5
    submit(queue, loop, f"{LONG}0")
    assert queue.queued_texts == 5


def test_an_empty_queue_takes_a_call_of_any_size(queue: LaneQueue, loop: asyncio.AbstractEventLoop) -> None:
    submit(queue, loop, *(f"{LONG}{number}" for number in range(50)))
    assert queue.queued_texts == 50


def test_the_estimate_of_the_wait_follows_what_runs_really_take(
    queue: LaneQueue, loop: asyncio.AbstractEventLoop
) -> None:
    for number in range(200):
        submit(queue, loop, f"{LONG}{number}")
        group, _ = queue.take_group(0)
        queue.finish(group, 0.010 * sum(work.tokens for work in group))
    submit(queue, loop, LONG)
    assert queue.wait_seconds == pytest.approx(0.010 * estimate_tokens(LONG), rel=0.01)


def test_draining_gives_everybody_who_waits_once(queue: LaneQueue, loop: asyncio.AbstractEventLoop) -> None:
    calls = [submit(queue, loop, "one", "two"), submit(queue, loop, "two", "three")]
    assert queue.drain() == calls
    assert take(queue) == []
    assert (queue.queued_texts, queue.queued_tokens) == (0, 0)


@pytest.mark.parametrize("text", ["", "a", "word " * 5000, "漢字" * 3000, "\ud800"])
def test_estimates_stay_within_what_the_model_reads(text: str) -> None:
    assert 3 <= estimate_tokens(text) <= 256


def test_owners_take_turns(queue: LaneQueue, loop: asyncio.AbstractEventLoop) -> None:
    submit(queue, loop, *(f"{LONG}{number}" for number in range(4)), owner=ACME)
    submit(queue, loop, f"{LONG}first", f"{LONG}second", owner=OTHER)
    submit(queue, loop, f"{LONG}third", owner=THIRD)
    order = []
    while queue.queued_texts:
        order += [text.removeprefix(LONG) for text in take(queue)]
    assert order == ["0", "first", "third", "1", "second", "2", "3"]


def test_owners_share_no_work(queue: LaneQueue, loop: asyncio.AbstractEventLoop) -> None:
    for owner in (ACME, ACME, OTHER, None):
        submit(queue, loop, "the same words", owner=owner)
    assert queue.queued_texts == 3
    queue.withdraw(submit(queue, loop, "the same words", owner=OTHER), ["the same words"])
    assert take(queue) == ["the same words"] * 3
    assert queue.wait_seconds_of(ACME) == 0


def test_a_queue_full_of_one_owner_takes_another(queue: LaneQueue, loop: asyncio.AbstractEventLoop) -> None:
    """The patient second holds a thousand word pieces: four long texts."""
    submit(queue, loop, *(f"{LONG}{number}" for number in range(5)), owner=ACME)
    with pytest.raises(EmbeddingOverloaded):
        submit(queue, loop, "one more", owner=ACME)
    submit(queue, loop, f"{LONG}other", owner=OTHER)
    submit(queue, loop, "and more of the other", owner=OTHER)
    assert queue.wait_seconds_of(THIRD) == 0


def test_however_many_owners_there_are_the_queue_ends_somewhere(
    queue: LaneQueue, loop: asyncio.AbstractEventLoop
) -> None:
    for number in range(16):
        submit(queue, loop, LONG, owner=UUID(int=number))
    with pytest.raises(EmbeddingOverloaded):
        submit(queue, loop, LONG, owner=UUID(int=16))
    assert 4 <= queue.wait_seconds < 5
