"""The pool is shared: nobody takes all of it, nobody is forgotten, no place is lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from memsidecar.domain.fair_share import FairShare


async def taken(share: FairShare, holder: str, wanted: int) -> int:
    """Take places until one would have to be waited for, and give how many it were."""
    for number in range(wanted):
        try:
            await share.take(holder, 0.0)
        except TimeoutError:
            return number
    return wanted


@pytest.mark.parametrize(
    ("places", "alone", "second", "third"),
    [(1, 1, 0, 0), (2, 1, 1, 0), (3, 2, 1, 0), (10, 7, 2, 1), (30, 20, 7, 2)],
)
async def test_whoever_wants_everything_leaves_room_for_others(
    places: int, alone: int, second: int, third: int
) -> None:
    share = FairShare(places)
    assert [await taken(share, name, places) for name in "abc"] == [alone, second, third]


async def test_the_one_that_holds_least_is_next() -> None:
    share = FairShare(2)
    order: list[str] = []

    async def work(holder: str) -> None:
        await share.take(holder, 10)
        order.append(holder)
        await asyncio.sleep(0)
        share.give_back(holder)

    await share.take("greedy", 0)
    await share.take("other", 0)
    tasks = [asyncio.create_task(work("greedy")) for _ in range(3)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(work("modest"))]
    await asyncio.sleep(0)
    assert share.waiting == 4
    share.give_back("other")
    await asyncio.gather(*tasks[-1:])
    assert order[0] == "modest"
    share.give_back("greedy")
    await asyncio.gather(*tasks)
    assert share.waiting == 0


@pytest.mark.parametrize("seed", range(5))
async def test_no_place_is_lost_or_made_under_cancellation(seed: int) -> None:
    chance = random.Random(seed)
    share = FairShare(5)
    in_use = most = 0

    async def work(holder: int) -> None:
        nonlocal in_use, most
        await share.take(holder, chance.choice([0.0, 0.001, 1.0]))
        in_use += 1
        most = max(most, in_use)
        try:
            await asyncio.sleep(chance.random() * 0.002)
        finally:
            in_use -= 1
            share.give_back(holder)

    tasks = [asyncio.create_task(work(chance.randrange(8))) for _ in range(300)]
    for task in chance.sample(tasks, 150):
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random() * 0.001)
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {type(None), TimeoutError, asyncio.CancelledError}
    assert most == 5
    assert share.waiting == 0
    assert await taken(share, "whoever comes last", 5) == 4
    assert await taken(share, "another", 5) == 1
