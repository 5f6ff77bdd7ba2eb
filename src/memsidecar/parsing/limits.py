"""How much one document may cost to read."""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ReadingLimits:
    """Limits of a reader process."""

    memory_bytes: int = 1024 * 1_048_576
    """Address space of a process. Reading 32 MiB of text takes a tenth of it; PDFs can take more."""
    cpu_seconds: int = 120
    """Processor time for one document. Reading 32 MiB of text takes about a quarter of it."""
    wall_seconds: int = 600
    """Time for one document in all, however busy the machine is."""


def limit_process(limits: ReadingLimits) -> None:
    """Bind the calling process for good: memory, no files written, no core dumps, last in line for the processor."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":  # elsewhere address space cannot be limited without breaking the loader
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
        # When the container runs out of memory this process goes, and not the server.
        Path("/proc/self/oom_score_adj").write_text("1000")
    os.nice(5)


def allow_cpu_seconds(limits: ReadingLimits) -> None:
    """Let the calling process use ``cpu_seconds`` from now on; the kernel ends it when they are used up."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    until = int(usage.ru_utime + usage.ru_stime) + 1 + limits.cpu_seconds
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (until, hard))
