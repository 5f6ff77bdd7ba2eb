"""Wires a reader process: ``python -m memsidecar.document_reader_process TOKENIZER MEMORY_BYTES CPU_SECONDS``."""

from __future__ import annotations

import sys
from pathlib import Path

from memsidecar.embedding.tokenization import WordPieceTokenizer
from memsidecar.parsing.limits import ReadingLimits
from memsidecar.parsing.reader_process import serve_documents


def reader_command(tokenizer: Path, limits: ReadingLimits) -> list[str]:
    """Give the command line that starts a reader process."""
    return [
        sys.executable,
        "-P",
        "-m",
        __spec__.name,
        str(tokenizer),
        str(limits.memory_bytes),
        str(limits.cpu_seconds),
    ]


def main() -> None:
    """Read documents until the server is gone."""
    tokenizer, memory_bytes, cpu_seconds = sys.argv[1:]
    limits = ReadingLimits(memory_bytes=int(memory_bytes), cpu_seconds=int(cpu_seconds))
    serve_documents(WordPieceTokenizer(Path(tokenizer)).offsets, limits)


if __name__ == "__main__":
    main()
