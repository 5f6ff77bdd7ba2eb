"""What a Postgres that would not start says about the reason, as a sentence with a remedy."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from memsidecar.domain.errors import Problem

if TYPE_CHECKING:
    from pathlib import Path

TELLING_LEVELS = ("PANIC:", "FATAL:", "error:", "could not")
TAIL_LINES = 5
TAIL_CHARACTERS = 600


def startup_problem(program: str, output: str, directory: Path, log: Path | None = None) -> Problem:
    """Explain the exit of ``program`` from what it printed, in English because it ran in the C locale.

    Args:
        program: ``postgres`` or ``initdb``.
        output: what it wrote since it was started.
        directory: the data directory.
        log: the file in which ``output`` can be read in full.
    """
    where = f" The whole log is {log}." if log else ""
    return Problem(
        f"{program} could not start in {directory}: {_summary(output)}", _remedy(output, directory) + where
    )


def _summary(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if any(level in line for level in TELLING_LEVELS)]
    chosen = (telling or lines)[-TAIL_LINES:]
    return " | ".join(chosen)[-TAIL_CHARACTERS:] or "it printed nothing."


def _remedy(output: str, directory: Path) -> str:
    memory = "shared memory" in output or "semaphores" in output
    if memory and "already exists" not in output and "still in use" not in output:
        return "Give this process more memory (the container's limit, or kernel.shmmax and kernel.shmall)."
    if "still in use" in output or "lock file" in output:
        return f"Another Postgres uses {directory}: stop it, or choose another data directory."
    remedies = {
        errno.ENOSPC: f"Free some space on the disk of {directory}.",
        errno.EDQUOT: f"Raise the disk quota, or free some space on the disk of {directory}.",
        errno.EROFS: f"Mount the disk of {directory} writable, or choose another data directory.",
        errno.EACCES: f"Let this user read and write {directory}, or choose another data directory.",
        errno.EPERM: f"Let this user read and write {directory}, or choose another data directory.",
        errno.EIO: f"Check the disk of {directory}: it answers with input/output errors.",
    }
    return next(
        (remedy for number, remedy in remedies.items() if os.strerror(number) in output),
        "Put right what it names, or choose another data directory.",
    )
