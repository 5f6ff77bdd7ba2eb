"""A hostile document costs itself and nobody else."""

from __future__ import annotations

import asyncio
import os
import signal
import zlib
from typing import TYPE_CHECKING

import psutil
import pytest

from memsidecar.document_reader_process import reader_command
from memsidecar.domain.document_reading import SourceDocument, UnreadableDocument
from memsidecar.embedding.model_files import tokenizer_file
from memsidecar.parsing.limits import ReadingLimits
from memsidecar.parsing.process_pool import ReaderFailed, ReaderProcesses
from tests.documents.pdf_files import pdf

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

GOOD = SourceDocument("good.txt", b"All is well.")


@pytest.fixture
async def start(model_directory: Path) -> AsyncIterator[Callable[[ReadingLimits], ReaderProcesses]]:
    pools: list[ReaderProcesses] = []

    def make(limits: ReadingLimits) -> ReaderProcesses:
        pools.append(
            ReaderProcesses(reader_command(tokenizer_file(model_directory), limits), limits, processes=1)
        )
        return pools[-1]

    yield make
    for pool in pools:
        await pool.close()
    assert reader_children() == []


def reader_children() -> list[psutil.Process]:
    """The readers among the processes of this test run, which has others: a Postgres, for one."""
    return [
        child
        for child in psutil.Process().children()
        if "document_reader_process" in " ".join(child.cmdline())
    ]


def bomb() -> bytes:
    """A small PDF with a page that unpacks to 400 MB."""
    page = pdf(["x"])
    packed = zlib.compress(b"(x) Tj " * (400_000_000 // 7), 9)
    plain = page[page.index(b"stream\n") + 7 : page.index(b"\nendstream")]
    length = b"/Length %d" % len(plain)
    return page.replace(plain, packed).replace(length, b"/Filter /FlateDecode /Length %d" % len(packed))


async def test_a_decompression_bomb_fails_alone(start: Callable[[ReadingLimits], ReaderProcesses]) -> None:
    readers = start(ReadingLimits(memory_bytes=300 * 1_048_576))
    with pytest.raises(UnreadableDocument, match="more than 300 MiB of memory"):
        await readers.read(SourceDocument("bomb.pdf", bomb()))
    assert (await readers.read(GOOD)).content == "All is well."


async def test_a_document_that_takes_too_long_fails_alone(
    start: Callable[[ReadingLimits], ReaderProcesses],
) -> None:
    readers = start(ReadingLimits(cpu_seconds=1))
    with pytest.raises(UnreadableDocument, match="takes more than 1 seconds"):
        await readers.read(SourceDocument("deep.html", b"<div>" * 500_000 + b"x"))
    assert (await readers.read(GOOD)).content == "All is well."


async def test_a_reader_that_hangs_is_ended(start: Callable[[ReadingLimits], ReaderProcesses]) -> None:
    readers = start(ReadingLimits(wall_seconds=2))
    await readers.read(GOOD)
    [process] = reader_children()
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(UnreadableDocument, match="takes more than 2 seconds"):
        await readers.read(GOOD)
    assert (await readers.read(GOOD)).content == "All is well."


@pytest.mark.parametrize(
    "source",
    [
        SourceDocument("deep.md", b"> " * 50_000 + b"x"),
        SourceDocument("deep.py", b"(" * 200_000),
        SourceDocument("deep.json", b"[" * 200_000),
        SourceDocument("brackets.md", b"[" * 20_000),
        SourceDocument("line.txt", b"a" * 3_000_000),
    ],
    ids=lambda source: source.document_key,
)
async def test_odd_documents_are_read_or_refused_and_the_next_one_is_read(
    source: SourceDocument, start: Callable[[ReadingLimits], ReaderProcesses]
) -> None:
    readers = start(ReadingLimits(cpu_seconds=60))
    try:
        document = await readers.read(source)
        assert document.content.encode() == source.raw
    except UnreadableDocument as error:
        assert "nested too deep" in str(error) or "takes more than" in str(error)  # noqa: PT017
    assert (await readers.read(GOOD)).content == "All is well."


async def test_a_lost_reader_is_replaced(start: Callable[[ReadingLimits], ReaderProcesses]) -> None:
    readers = start(ReadingLimits())
    await readers.read(GOOD)
    [process] = reader_children()
    process.kill()
    await asyncio.sleep(0.5)
    assert (await readers.read(GOOD)).content == "All is well."


async def test_the_event_loop_goes_on_while_a_document_is_read(
    start: Callable[[ReadingLimits], ReaderProcesses],
) -> None:
    readers = start(ReadingLimits())
    await readers.read(GOOD)
    loop = asyncio.get_running_loop()
    longest = 0.0
    reading = asyncio.ensure_future(readers.read(SourceDocument("a.txt", b"A sentence of words. " * 100_000)))
    while not reading.done():
        before = loop.time()
        await asyncio.sleep(0.001)
        longest = max(longest, loop.time() - before)
    assert len((await reading).passages) > 1_000
    assert longest < 1.0


async def test_a_broken_installation_is_not_the_documents_fault() -> None:
    limits = ReadingLimits()
    readers = ReaderProcesses(["false"], limits)
    with pytest.raises(ReaderFailed):
        await readers.read(GOOD)
