"""The inside of a reader process: reads documents from standard input, one after the other, until it closes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, BinaryIO

from memsidecar.domain.document_reading import UnreadableDocument
from memsidecar.parsing.frames import HEADER, Frame, Kind, document_frames, source_from
from memsidecar.parsing.limits import ReadingLimits, allow_cpu_seconds, limit_process
from memsidecar.parsing.reader import read_document

if TYPE_CHECKING:
    from memsidecar.domain.chunking import WordPieces

DAMAGED = "the file is damaged or not what its type says: open it in its own program and save it again"


def serve_documents(word_pieces: WordPieces, limits: ReadingLimits) -> None:
    """Answer requests until the server closes the pipe, as it does by ending in whatever way."""
    limit_process(limits)
    source, answers = sys.stdin.buffer, sys.stdout.buffer
    _write(answers, Frame(Kind.READY))
    answers.flush()
    while (known := _read(source)) is not None and (raw := _read(source)) is not None:
        allow_cpu_seconds(limits)
        try:
            for frame in document_frames(read_document(source_from(known, raw), word_pieces)):
                _write(answers, frame)
        except UnreadableDocument as error:
            _write(answers, Frame(Kind.UNREADABLE, str(error).encode()))
        except (MemoryError, RecursionError):
            _write(answers, Frame(Kind.UNREADABLE, too_much_memory(limits).encode()))
        except Exception as error:
            _write(answers, Frame(Kind.UNREADABLE, f"{DAMAGED} ({type(error).__name__})".encode()))
        del known, raw
        answers.flush()


def too_much_memory(limits: ReadingLimits) -> str:
    """Say that a document took more memory than it may."""
    return (
        f"reading it takes more than {limits.memory_bytes // 1_048_576:,} MiB of memory or is nested too deep:"
        " split it, or make it simpler"
    )


def _read(source: BinaryIO) -> bytes | None:
    header = source.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    _, length = HEADER.unpack(header)
    payload = source.read(length)
    return payload if len(payload) == length else None


def _write(answers: BinaryIO, frame: Frame) -> None:
    answers.writelines(frame.encoded())
