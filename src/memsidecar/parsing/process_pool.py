"""Reads documents in processes of their own, so that a hostile file costs itself and nobody else.

Implements ``domain.document_reading.DocumentReader``.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from asyncio.subprocess import PIPE, Process
from typing import TYPE_CHECKING

from memsidecar.domain.document_reading import UnreadableDocument
from memsidecar.parsing.frames import HEADER, DocumentAssembly, Frame, Kind, source_frames
from memsidecar.parsing.reader_process import DAMAGED, too_much_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memsidecar.domain.document_reading import ReadDocument, SourceDocument
    from memsidecar.parsing.limits import ReadingLimits


class ReaderFailed(Exception):
    """A reader process cannot even start: the installation is broken, not a document."""


class ReaderProcesses:
    """A few processes that read documents, started when needed and replaced when one is lost.

    Args:
        command: Starts a reader process (``parsing.reader_process``) on pipes.
        limits: What the processes hold themselves to; the time in all is held here.
        processes: How many may run at the same time.
    """

    def __init__(self, command: Sequence[str], limits: ReadingLimits, *, processes: int = 2) -> None:
        self._command = tuple(command)
        self._limits = limits
        self._free = asyncio.Semaphore(processes)
        self._idle: list[Process] = []
        self._running: set[Process] = set()

    async def read(self, source: SourceDocument) -> ReadDocument:
        """Read one document; see the port."""
        async with self._free:
            process = self._idle_process() or await self._start()
            try:
                return await self._read_with(process, source)
            except (EOFError, ConnectionError):
                raise UnreadableDocument(self._reason(await process.wait())) from None

    def _idle_process(self) -> Process | None:
        """Take a process that waits for work; one that was ended from outside meanwhile is forgotten."""
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
            self._running.discard(process)
        return None

    async def _read_with(self, process: Process, source: SourceDocument) -> ReadDocument:
        try:
            async with asyncio.timeout(self._limits.wall_seconds):
                document = await _converse(process, source)
        except UnreadableDocument:
            self._idle.append(process)
            raise
        except TimeoutError:
            await self._end(process)
            raise UnreadableDocument(self._too_long(self._limits.wall_seconds)) from None
        except BaseException:
            await self._end(process)
            raise
        self._idle.append(process)
        return document

    async def close(self) -> None:
        """End every process."""
        self._idle.clear()
        for process in tuple(self._running):
            await self._end(process)

    async def _start(self) -> Process:
        process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE)
        self._running.add(process)
        try:
            async with asyncio.timeout(self._limits.wall_seconds):
                await _next_frame(process)
        except BaseException as error:
            return_code = await self._end(process)
            if isinstance(error, EOFError):
                raise ReaderFailed(f"a reader process ended with {return_code} before it began") from error
            raise
        return process

    async def _end(self, process: Process) -> int:
        """End a process if it has not ended, and give its return code."""
        self._running.discard(process)
        # A process that was killed while a frame was on its way has still to be reaped and its pipes closed.
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            async with asyncio.timeout(0.2):
                return await process.wait()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return await process.wait()

    def _reason(self, return_code: int) -> str:
        if return_code == -signal.SIGXCPU:
            return self._too_long(self._limits.cpu_seconds)
        if return_code in {-signal.SIGKILL, -signal.SIGABRT, 1}:
            return too_much_memory(self._limits)
        return DAMAGED

    @staticmethod
    def _too_long(seconds: int) -> str:
        return f"reading it takes more than {seconds} seconds: split it, or make it simpler"


async def _converse(process: Process, source: SourceDocument) -> ReadDocument:
    if process.stdin is None:
        raise EOFError
    for frame in source_frames(source):
        process.stdin.writelines(frame.encoded())
        await process.stdin.drain()
    assembly = DocumentAssembly()
    while (document := assembly.add(await _next_frame(process))) is None:
        pass
    return document


async def _next_frame(process: Process) -> Frame:
    if process.stdout is None:
        raise EOFError
    kind, length = HEADER.unpack(await process.stdout.readexactly(HEADER.size))
    return Frame(Kind(kind), await process.stdout.readexactly(length))
