"""The embedder as its callers see it: the real model, real threads, a real event loop."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import pytest

from memsidecar.domain.embedding import Embedding, Lane
from memsidecar.domain.errors import DeadlineExceeded, EmbeddingOverloaded
from memsidecar.embedding.engine import OnnxEmbedder
from memsidecar.embedding.model_files import InstalledModel, Precision, identity_of
from tests.embedding.golden import GOLDEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LONG = "the harbour report goes on and on about ships " * 40


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the embedder has no event to wait for, nor needs one
        await asyncio.sleep(0)


@asynccontextmanager
async def occupied(embedder: OnnxEmbedder, lane: Lane = Lane.INTERACTIVE) -> AsyncIterator[None]:
    """Keep the only worker of a lane busy with one group while the body runs its first steps."""
    busy = asyncio.create_task(embedder.embed([LONG], lane=lane))
    await until(lambda: embedder.counters(lane).running_groups == 1)
    yield
    await busy


async def test_texts_come_back_in_order_as_published(embedder: OnnxEmbedder) -> None:
    entries = json.loads(GOLDEN.read_text())
    embeddings = await embedder.embed([entry["text"] for entry in entries])
    for entry, embedding in zip(entries, embeddings, strict=True):
        expected = np.frombuffer(base64.b64decode(entry["vector"]), "<f4")
        assert np.frombuffer(embedding.vector, "<f4") @ expected >= 0.9999
        assert embedding.token_count == entry["token_count"]
        assert embedding.truncated == (entry["token_count"] > 256)


async def test_no_texts_give_no_embeddings(embedder: OnnxEmbedder) -> None:
    assert await embedder.embed([]) == []


async def test_it_names_its_model(embedder: OnnxEmbedder) -> None:
    assert embedder.model == identity_of(Precision.FP32)


async def test_a_text_repeated_in_one_call_is_run_once(embedder: OnnxEmbedder) -> None:
    first, second, third = await embedder.embed(["same", "other", "same"])
    assert first == third != second
    assert embedder.counters(Lane.INTERACTIVE).texts == 2


async def test_callers_of_one_text_share_one_run(embedder: OnnxEmbedder) -> None:
    async with occupied(embedder):
        answers = asyncio.gather(*(embedder.embed(["what everybody asks"]) for _ in range(10)))
        await asyncio.sleep(0)
    assert len({tuple(answer) for answer in await answers}) == 1
    counters = embedder.counters(Lane.INTERACTIVE)
    assert (counters.texts, counters.joined) == (2, 9)


async def test_a_repeated_query_is_answered_from_memory(embedder: OnnxEmbedder) -> None:
    first = await embedder.embed(["asked twice"])
    assert await embedder.embed(["asked twice"]) == first
    counters = embedder.counters(Lane.INTERACTIVE)
    assert (counters.texts, counters.cached) == (1, 1)


async def test_what_one_owner_asked_is_not_remembered_for_another(embedder: OnnxEmbedder) -> None:
    """A quick answer would tell a tenant what another has said."""
    ours, theirs = uuid4(), uuid4()
    async with occupied(embedder):
        answers = asyncio.gather(
            *(embedder.embed(["the plan"], owner=owner) for owner in (ours, theirs, ours, None))
        )
        await asyncio.sleep(0)
    await answers
    assert embedder.counters(Lane.INTERACTIVE).joined == 1
    await embedder.embed(["only theirs"], owner=theirs)
    await embedder.embed(["only theirs"], owner=ours)
    assert embedder.counters(Lane.INTERACTIVE).cached == 0
    await embedder.embed(["only theirs"], owner=theirs)
    assert embedder.counters(Lane.INTERACTIVE).cached == 1


async def test_memory_is_bounded_and_forgets_the_oldest(installed_fp32: InstalledModel) -> None:
    async with OnnxEmbedder(installed_fp32, threads=1, cached_texts=2) as embedder:
        for text in ("one", "two", "one", "three", "one", "two"):
            await embedder.embed([text])
        assert embedder.counters(Lane.INTERACTIVE).texts == 4


async def test_bulk_texts_do_not_push_queries_out_of_memory(installed_fp32: InstalledModel) -> None:
    async with OnnxEmbedder(installed_fp32, threads=1, cached_texts=1) as embedder:
        await embedder.embed(["query"])
        await embedder.embed(["bulk one", "bulk two"], lane=Lane.BACKGROUND)
        await embedder.embed(["query"])
        assert embedder.counters(Lane.INTERACTIVE).cached == 1


async def test_a_query_overtakes_queued_bulk_work(embedder: OnnxEmbedder) -> None:
    bulk = asyncio.create_task(embedder.embed([f"{LONG}{n}" for n in range(20)], lane=Lane.BACKGROUND))
    await until(lambda: embedder.counters(Lane.BACKGROUND).running_groups == 1)
    await embedder.embed(["a person waits"])
    assert not bulk.done()
    assert embedder.counters(Lane.BACKGROUND).queued_texts > 10
    bulk.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bulk


async def test_bulk_work_goes_on_while_queries_keep_coming(embedder: OnnxEmbedder) -> None:
    bulk = asyncio.create_task(
        embedder.embed(["bulk " * 50 + str(n) for n in range(10)], lane=Lane.BACKGROUND)
    )

    async def ask(name: str) -> None:
        number = 0
        while not bulk.done():
            number += 1
            await embedder.embed([f"{name} question {number}"])

    await asyncio.gather(*(ask(name) for name in ("first", "second", "third", "fourth")))
    assert len(await bulk) == 10


async def test_a_cancelled_call_is_never_run(embedder: OnnxEmbedder) -> None:
    async with occupied(embedder):
        abandoned = asyncio.create_task(embedder.embed(["nobody waits for this"]))
        await asyncio.sleep(0)
        assert embedder.counters(Lane.INTERACTIVE).queued_texts == 1
        abandoned.cancel()
        with pytest.raises(asyncio.CancelledError):
            await abandoned
        assert embedder.counters(Lane.INTERACTIVE).queued_texts == 0
    await until(lambda: embedder.counters(Lane.INTERACTIVE).running_groups == 0)
    counters = embedder.counters(Lane.INTERACTIVE)
    assert (counters.texts, counters.dropped) == (1, 1)


async def test_cancelling_one_caller_leaves_the_other_its_answer(embedder: OnnxEmbedder) -> None:
    async with occupied(embedder):
        leaving = asyncio.create_task(embedder.embed(["shared"]))
        staying = asyncio.create_task(embedder.embed(["shared"]))
        await asyncio.sleep(0)
        leaving.cancel()
    assert len(await staying) == 1
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_past_its_deadline_a_call_fails_and_is_never_run(embedder: OnnxEmbedder) -> None:
    loop = asyncio.get_running_loop()
    async with occupied(embedder):
        late = asyncio.create_task(embedder.embed(["too late"], deadline=loop.time() + 0.001))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceeded):
            await late
    assert embedder.counters(Lane.INTERACTIVE).texts == 1


async def test_a_deadline_in_time_changes_nothing(embedder: OnnxEmbedder) -> None:
    deadline = asyncio.get_running_loop().time() + 60
    assert len(await embedder.embed(["soon enough"], deadline=deadline)) == 1


async def test_overload_is_refused_at_once_and_what_was_taken_is_answered(
    installed_fp32: InstalledModel,
) -> None:
    patience = {Lane.INTERACTIVE: timedelta(microseconds=1), Lane.BACKGROUND: timedelta(seconds=10)}
    async with OnnxEmbedder(installed_fp32, threads=1, patience=patience) as embedder:
        async with occupied(embedder):
            taken = asyncio.create_task(embedder.embed(["first in the queue"]))
            await asyncio.sleep(0)
            with pytest.raises(EmbeddingOverloaded) as refusal:
                await embedder.embed(["one too many"])
            assert not taken.done()
            assert refusal.value.retry_after > timedelta(0)
            assert len(await embedder.embed(["the other lane has room"], lane=Lane.BACKGROUND)) == 1
        assert len(await taken) == 1
        assert embedder.counters(Lane.INTERACTIVE).refused == 1


async def test_the_event_loop_is_free_while_texts_are_embedded(embedder: OnnxEmbedder) -> None:
    megabytes = "a very long text that nobody should paste into a chat, but somebody does " * 20_000
    embedding = asyncio.create_task(embedder.embed([megabytes]))
    turns = 0
    while not embedding.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert (await embedding)[0].truncated
    assert turns > 20


async def test_closing_finishes_what_runs_and_refuses_the_rest(installed_fp32: InstalledModel) -> None:
    threads = threading.active_count()
    embedder = OnnxEmbedder(installed_fp32, threads=2)
    running = asyncio.create_task(embedder.embed([LONG]))
    await until(lambda: embedder.counters(Lane.INTERACTIVE).running_groups == 1)
    queued = asyncio.create_task(embedder.embed([f"{LONG}{number}" for number in range(10)]))
    await asyncio.sleep(0)
    await embedder.close()
    assert isinstance((await running)[0], Embedding)
    with pytest.raises(EmbeddingOverloaded):
        await queued
    with pytest.raises(EmbeddingOverloaded):
        await embedder.embed(["after the end"])
    await asyncio.get_running_loop().shutdown_default_executor()
    assert threading.active_count() == threads


async def test_a_failure_reaches_its_callers_and_the_next_call_works(
    embedder: OnnxEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_texts: object) -> list[bytes]:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("memsidecar.embedding.session.ModelSession.run", lambda _session, texts: fail(texts))
        with pytest.raises(RuntimeError, match="out of memory"):
            await embedder.embed(["unlucky"])
    assert len(await embedder.embed(["unlucky"])) == 1


async def test_token_offsets_are_character_spans(embedder: OnnxEmbedder) -> None:
    assert embedder.token_offsets("Ines likes tea") == [(0, 2), (2, 4), (5, 10), (11, 14)]
