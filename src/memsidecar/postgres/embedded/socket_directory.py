"""The directory of the embedded Postgres's socket: private, and short enough for a socket's path."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from memsidecar.domain.errors import Problem, SetupError

if TYPE_CHECKING:
    from memsidecar.postgres.embedded.account import Account

SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107
"""Longest path of a socket: ``sun_path`` as unix(4) and unix(7) state it, less the NUL at its end."""


def make_socket_directory(data_directory: Path, account: Account | None) -> Path:
    """Make the directory that holds the socket, which only ``account`` (None: this user) and root may enter.

    It is ``socket`` in the data directory. Where that path is too long, ``socket`` is a link to a directory
    with a short path under the one for temporary files, made anew when it has gone or is no longer private.

    Raises:
        SetupError: there is no place with a short enough path.
    """
    place = data_directory / "socket"
    if place.is_symlink():
        target = place.readlink()
        if _is_private(target, account):
            return target
        place.unlink()
    if fits(place):
        place.mkdir(exist_ok=True)
        _make_private(place, account)
        return place
    shutil.rmtree(place, ignore_errors=True)
    short = _short_directory(account)
    place.symlink_to(short)
    return short


def remove_socket_directory(data_directory: Path) -> None:
    """Remove a short directory that stands in for ``socket``, once no Postgres uses it."""
    place = data_directory / "socket"
    if place.is_symlink():
        shutil.rmtree(place.readlink(), ignore_errors=True)
        place.unlink()


def fits(directory: Path) -> bool:
    """Whether a socket in ``directory`` has a path that is not too long."""
    return len(os.fsencode(directory / SOCKET_NAME)) <= SOCKET_PATH_BYTES


def _short_directory(account: Account | None) -> Path:
    for base in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - mkdtemp makes ours in it
        reachable = account is None or all(account.may_pass(folder) for folder in (base, *base.parents))
        if fits(base / "memsidecar-12345678") and reachable:
            directory = Path(tempfile.mkdtemp(prefix="memsidecar-", dir=base))
            _make_private(directory, account)
            return directory
    raise SetupError(
        Problem(
            "There is no directory with a path short enough for the socket of Postgres"
            f" ({SOCKET_PATH_BYTES} bytes at most).",
            "Choose a data directory with a shorter path, or set TMPDIR to a short one.",
        )
    )


def _make_private(directory: Path, account: Account | None) -> None:
    directory.chmod(0o700)
    if account is not None:
        account.own(directory)


def _is_private(directory: Path, account: Account | None) -> bool:
    try:
        status = directory.lstat()
    except OSError:
        return False
    owner = os.geteuid() if account is None else account.user_id
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == owner
        and not status.st_mode & 0o077
        and fits(directory)
    )
