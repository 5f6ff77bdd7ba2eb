"""What a Postgres that would not start says about the reason, as a sentence with a remedy."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from memsidecar.domain.errors import Problem

if TYPE_CHECKING:
    from pathlib import Path

_MESSAGE = re.compile(r"(?:PANIC|FATAL|ERROR|LOG|error):\s+(.+)")
ROUTINE = (
    "starting PostgreSQL",
    "listening on",
    "database system ",
    "shutting down",
    "automatic recovery",
    "redo ",
)
"""How messages begin that every start and end brings."""
TOLD_MESSAGES = 4
TOLD_CHARACTERS = 600


def startup_problem(program: str, output: str, directory: Path, log: Path | None = None) -> Problem:
    """Explain why ``program`` ended from what it printed, in English because it ran in the C locale.

    Args:
        program: ``postgres`` or ``initdb``.
        output: what it wrote since it was started.
        directory: the data directory.
        log: the file in which ``output`` can be read in full.
    """
    told = _told(output)
    # The hint of a write that was cut short; the message itself does not say why.
    full = "Check free disk space" in output
    remedy = f"Free some space on the disk of {directory}." if full else _remedy(told, directory)
    where = f" Its whole log is {log}." if log else ""
    return Problem(f"{program} failed in {directory}: {told}.", remedy + where)


def _told(output: str) -> str:
    messages = [message for message in _MESSAGE.findall(output) if not message.startswith(ROUTINE)]
    told = messages[:TOLD_MESSAGES] or output.split("\n")[-TOLD_MESSAGES:]
    return "; ".join(told)[:TOLD_CHARACTERS].strip() or "it printed nothing"


def _remedy(told: str, directory: Path) -> str:
    if "already exists" in told or "still in use" in told:
        return f"Stop the other Postgres that uses {directory}, or choose another data directory."
    if "shared memory" in told or "semaphores" in told or os.strerror(errno.ENOMEM) in told:
        return "Give this process more memory (the container's limit, or kernel.shmmax and kernel.shmall)."
    remedies = {
        errno.ENOSPC: f"Free some space on the disk of {directory}.",
        errno.EDQUOT: f"Raise the disk quota, or free some space on the disk of {directory}.",
        errno.EROFS: f"Mount the disk of {directory} writable, or choose another data directory.",
        errno.EACCES: f"Let this user read and write {directory}, or choose another data directory.",
        errno.EPERM: f"Let this user read and write {directory}, or choose another data directory.",
        errno.EIO: f"Check the disk of {directory}: it answers with input/output errors.",
    }
    return next(
        (remedy for number, remedy in remedies.items() if os.strerror(number) in told),
        "Put right what it names, or choose another data directory.",
    )
