"""How many processors this process may use, a container's limit included."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def usable_processors(*, root: Path = Path("/")) -> int:
    """Count whole processors: the scheduler's affinity, bounded by the control group's quota. At least 1.

    A quota of 1.5 counts as 1: a second busy thread would be stopped by the quota in the middle of its work,
    and the half processor is what the rest of the process runs on.

    Args:
        root: Directory taken for ``/``, so that a test can lay out control groups of its own.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([float(affinity), *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Yield every quota, in processors, set on this process's control group or one above it."""
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for membership in memberships:
        _, controllers, group = membership.split(":", 2)
        if controllers == "":
            for directory in _upwards(root / "sys/fs/cgroup", group):
                yield from _quota(directory / "cpu.max")
        elif "cpu" in controllers.split(","):
            for directory in _upwards(root / "sys/fs/cgroup/cpu", group):
                yield from _quota(directory / "cpu.cfs_quota_us", directory / "cpu.cfs_period_us")


def _upwards(mount: Path, group: str) -> Iterator[Path]:
    directory = mount / group.lstrip("/")
    while directory != mount:
        yield directory
        directory = directory.parent
    yield mount


def _quota(*files: Path) -> Iterator[float]:
    """Yield quota / period, which cgroup v2 keeps in one file and v1 in two; nothing if unlimited."""
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
    except (OSError, ValueError):
        return
    if quota not in {"max", "-1"}:
        yield int(quota) / int(period)
