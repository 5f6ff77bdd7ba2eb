"""A process that only embeds: how much memory it holds, and whether that grows. Run as a process of its own."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from datetime import timedelta
from pathlib import Path

import psutil

from benchmarks.chat_texts import made_up_texts
from memsidecar.domain.embedding import Lane
from memsidecar.embedding.engine import OnnxEmbedder
from memsidecar.embedding.model_files import Precision, open_installed

CALLERS = 32
PATIENCE = dict.fromkeys(Lane, timedelta(minutes=1))
"""Nothing is to be refused here, however slow the machine."""
_MEBIBYTE = 2**20


async def _measure(root: Path, precision: Precision, requests: int, seconds: float) -> dict[str, float]:
    process = psutil.Process()
    resident = [process.memory_info().rss]
    words = " ".join(made_up_texts(200)).split()
    source = random.Random(11)
    numbers = itertools.count()
    ends_at = time.monotonic() + seconds
    async with OnnxEmbedder(open_installed(root, precision), patience=PATIENCE) as embedder:
        resident.append(process.memory_info().rss)

        async def call() -> None:
            while (number := next(numbers)) < requests and time.monotonic() < ends_at:
                first = source.randrange(len(words))
                await embedder.embed([" ".join(words[first : first + source.randint(1, 60)]) + f" {number}"])
                if number == requests // 10:
                    resident.append(process.memory_info().rss)

        await asyncio.gather(*(call() for _ in range(CALLERS)))
        resident.append(process.memory_info().rss)
    bare, loaded, early, late = (size / _MEBIBYTE for size in resident)
    return {
        "requests": min(next(numbers), requests),
        "before_loading_mb": round(bare),
        "loaded_mb": round(loaded),
        "after_a_tenth_mb": round(early),
        "at_the_end_mb": round(late),
        "growth": round(late / early, 3),
    }


if __name__ == "__main__":
    _, directory, precision_name, request_count, limit = sys.argv
    figures = asyncio.run(
        _measure(Path(directory), Precision(precision_name), int(request_count), float(limit))
    )
    print(json.dumps(figures))
