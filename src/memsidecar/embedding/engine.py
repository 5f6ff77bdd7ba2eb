"""The embedder of this process: the model, its worker threads and the queues in front of them.

Every lane has a thread per processor, so a person never waits for a free thread behind bulk work. Threads of
the background lane run at a lower scheduling priority (``BACKGROUND_NICENESS``): the kernel takes the
processor from them within a fraction of a millisecond when anybody else in the process, or the database
beside it, has something to do, and leaves them their share while all are busy.

The event loop only takes and releases a lock; tokenising and the model run in the threads, outside Python's
lock.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from memsidecar.domain.embedding import Embedding, Lane, LaneCounters, ModelIdentity
from memsidecar.domain.errors import DeadlineExceeded, EmbeddingOverloaded
from memsidecar.domain.observation import UNOBSERVED, Stage
from memsidecar.embedding.cache import RecentEmbeddings
from memsidecar.embedding.cpu_limit import usable_processors
from memsidecar.embedding.scheduler import Call, LaneQueue, Work
from memsidecar.embedding.session import ModelSession
from memsidecar.embedding.tokenization import WordPieceTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from memsidecar.domain.observation import Observer
    from memsidecar.embedding.model_files import InstalledModel

BACKGROUND_NICENESS: Final = 10
"""Gives a busy background thread about a tenth of a processor that an interactive one wants as well."""

DEFAULT_PATIENCE: Final = {Lane.INTERACTIVE: timedelta(seconds=2), Lane.BACKGROUND: timedelta(seconds=20)}
"""How much queued work a lane takes before it refuses more."""

DEFAULT_CACHED_TEXTS: Final = 1024

_CALIBRATION_TEXT: Final = "the quick brown fox jumps over the lazy dog " * 6
_STOPPING = timedelta(seconds=1)


class _Tally:
    """The growing side of ``LaneCounters``."""

    def __init__(self) -> None:
        self.running_groups = self.groups = self.texts = self.tokens = 0
        self.cached = self.joined = self.refused = self.dropped = 0
        self.queue_seconds = self.tokenise_seconds = self.run_seconds = 0.0


class OnnxEmbedder:
    """Implements ``memsidecar.domain.embedding.Embedder`` with the model in this process.

    Construction loads the model, measures its speed once and starts the threads (0.3 s); ``close`` ends them.

    Args:
        model: Files from ``open_installed``.
        threads: Worker threads per lane; by default one per processor this process may use.
        patience: See ``DEFAULT_PATIENCE``.
        cached_texts: How many recent texts to remember (2 KB each); 0 remembers none.
        observer: Is told how long texts wait and groups run.

    Raises:
        ModelCorrupt: The graph cannot be loaded.
    """

    def __init__(
        self,
        model: InstalledModel,
        *,
        threads: int | None = None,
        patience: dict[Lane, timedelta] | None = None,
        cached_texts: int = DEFAULT_CACHED_TEXTS,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._observer = observer
        self._identity = model.identity
        self._tokenizer = WordPieceTokenizer(model.tokenizer)
        self._session = ModelSession(model)
        self._cache = RecentEmbeddings(cached_texts)
        self._lock = threading.Lock()
        self._closing = False
        threads = threads or usable_processors()
        seconds_per_token = self._calibrate()
        self._queues = {
            lane: LaneQueue(
                workers=threads,
                patience=(patience or DEFAULT_PATIENCE)[lane],
                seconds_per_token=seconds_per_token,
            )
            for lane in Lane
        }
        self._tallies = {lane: _Tally() for lane in Lane}
        self._arrivals = {lane: threading.Condition(self._lock) for lane in Lane}
        self._threads = [
            threading.Thread(
                target=self._work, args=(lane,), name=f"embed-{lane.value}-{number}", daemon=True
            )
            for lane in Lane
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def model(self) -> ModelIdentity:
        """See ``Embedder.model``."""
        return self._identity

    async def embed(
        self,
        texts: Sequence[str],
        *,
        owner: UUID | None = None,
        lane: Lane = Lane.INTERACTIVE,
        deadline: float | None = None,
    ) -> list[Embedding]:
        """See ``Embedder.embed``. Texts of a cancelled caller are not run, unless others wait for them."""
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        call = Call(
            loop=loop,
            answer=loop.create_future(),
            embeddings=[None] * len(texts),
            deadline=float("inf") if deadline is None else now + deadline - loop.time(),
            owner=owner,
        )
        with self._lock:
            if self._closing:
                raise EmbeddingOverloaded(_STOPPING)
            missing = self._submit(call, texts, lane, now)
        if not missing:
            return [embedding for embedding in call.embeddings if embedding is not None]
        try:
            return await call.answer
        finally:
            if call.answer.cancelled() or call.answer.exception() is not None:
                with self._lock:
                    self._tallies[lane].dropped += self._queues[lane].withdraw(
                        call, {text for _, text in missing}
                    )

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        """See ``Embedder.token_offsets``. Runs in the calling thread: about 1 ms per 5,000 characters."""
        return self._tokenizer.offsets(text)

    def counters(self, lane: Lane) -> LaneCounters:
        """Read what happened in a lane so far."""
        with self._lock:
            queue, tally = self._queues[lane], self._tallies[lane]
            return LaneCounters(
                queued_texts=queue.queued_texts, queued_tokens=queue.queued_tokens, **vars(tally)
            )

    async def close(self) -> None:
        """Finish what is running, refuse what is queued and everything after, and end the threads."""
        with self._lock:
            self._closing = True
            for lane in Lane:
                for call in self._queues[lane].drain():
                    _tell(call.loop, [(call, EmbeddingOverloaded(_STOPPING))])
                self._arrivals[lane].notify_all()
        await asyncio.to_thread(self._join)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _calibrate(self) -> float:
        ids = self._tokenizer.encode(_CALIBRATION_TEXT).ids
        self._session.run([ids])
        started = time.perf_counter()
        self._session.run([ids])
        return (time.perf_counter() - started) / len(ids)

    def _submit(self, call: Call, texts: Sequence[str], lane: Lane, now: float) -> list[tuple[int, str]]:
        """Answer from memory what is there, queue the rest and give it back."""
        queue, tally = self._queues[lane], self._tallies[lane]
        missing = []
        for position, text in enumerate(texts):
            call.embeddings[position] = self._cache.get(call.owner, text)
            if call.embeddings[position] is None:
                missing.append((position, text))
        if missing:
            try:
                added = queue.submit(call, missing, now)
            except EmbeddingOverloaded:
                tally.refused += 1
                raise
            tally.joined += len(missing) - added
            self._arrivals[lane].notify(added)
        tally.cached += len(texts) - len(missing)
        return missing

    def _work(self, lane: Lane) -> None:
        if lane is Lane.BACKGROUND and sys.platform == "linux":
            # On Linux this setting belongs to the thread, not to the process.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICENESS)
        queue, tally, arrivals = self._queues[lane], self._tallies[lane], self._arrivals[lane]
        while True:
            with arrivals:
                arrivals.wait_for(lambda: queue.queued_texts or self._closing)
                if self._closing:
                    return
                now = time.monotonic()
                group, late = queue.take_group(now)
                tally.queue_seconds += sum(now - work.queued_at for work in group)
                tally.running_groups += bool(group)
            _tell_all(
                (call, DeadlineExceeded("the deadline passed before the text was embedded")) for call in late
            )
            for work in group:
                self._observer.spent(Stage.QUEUE, lane, now - work.queued_at)
            if group:
                self._run(lane, group)

    def _run(self, lane: Lane, group: Sequence[Work]) -> None:
        queue, tally = self._queues[lane], self._tallies[lane]
        started = tokenised = time.perf_counter()
        outcome: list[Embedding] | Exception
        try:
            pieces = [self._tokenizer.encode(work.text) for work in group]
            tokenised = time.perf_counter()
            vectors = self._session.run([piece.ids for piece in pieces])
            outcome = [
                Embedding(vector=vector, token_count=piece.token_count, truncated=piece.truncated)
                for vector, piece in zip(vectors, pieces, strict=True)
            ]
        except Exception as error:
            # Whatever it is belongs to those who wait; the thread lives on.
            outcome = error
        finished = time.perf_counter()
        self._observer.spent(Stage.TOKENISE, lane, tokenised - started)
        self._observer.spent(Stage.EMBED, lane, finished - tokenised)
        with self._lock:
            queue.finish(group, finished - started)
            tally.running_groups -= 1
            tally.groups += 1
            tally.tokenise_seconds += tokenised - started
            tally.run_seconds += finished - tokenised
            if not isinstance(outcome, Exception):
                tally.texts += len(group)
                tally.tokens += sum(len(piece.ids) for piece in pieces)
                if lane is Lane.INTERACTIVE:
                    for work, embedding in zip(group, outcome, strict=True):
                        self._cache.put(work.owner, work.text, embedding)
        if isinstance(outcome, Exception):
            _tell_all((call, outcome) for work in group for call, _ in work.waiting)
        else:
            _tell_all(
                (call, (position, embedding))
                for work, embedding in zip(group, outcome, strict=True)
                for call, position in work.waiting
            )


_News: TypeAlias = "tuple[Call, tuple[int, Embedding] | Exception]"


def _tell_all(news: Iterable[_News]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_News]] = {}
    for call, what in news:
        by_loop.setdefault(call.loop, []).append((call, what))
    for loop, of_loop in by_loop.items():
        _tell(loop, of_loop)


def _tell(loop: asyncio.AbstractEventLoop, news: list[_News]) -> None:
    try:
        loop.call_soon_threadsafe(_settle, news)
    except RuntimeError:
        # The loop is closed: nobody is left to hear it.
        return


def _settle(news: list[_News]) -> None:
    """Runs in the callers' event loop."""
    for call, what in news:
        if call.answer.done():
            continue
        if isinstance(what, Exception):
            call.answer.set_exception(what)
            continue
        position, embedding = what
        call.embeddings[position] = embedding
        done = [known for known in call.embeddings if known is not None]
        if len(done) == len(call.embeddings):
            call.answer.set_result(done)
