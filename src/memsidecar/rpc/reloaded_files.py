"""Files that are read again when they changed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")


class ReloadedFiles(Generic[T]):
    """What a group of files says, read again whenever one of them changed. Safe to use from any thread.

    Args:
        paths: The files. A mounted secret, which changes by way of a symbolic link, is seen too.
        read: Makes the value of the contents, in the order of the paths. Raises ``ValueError`` when they are wrong.
        refused: Told once of each state of the files that could not be used; the last good value stays.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[Sequence[bytes]], T],
        refused: Callable[[Exception], None],
    ) -> None:
        self._paths = tuple(paths)
        self._read = read
        self._refused = refused
        self._lock = threading.Lock()
        self._seen = self._state()
        self._value = read([path.read_bytes() for path in self._paths])

    def current(self) -> T:
        """Give the value of the files as they are now, or of their last good state."""
        return self.changed()[1]

    def changed(self) -> tuple[bool, T]:
        """Say whether the value is new since the last time it was asked for, and give it."""
        with self._lock:
            state = self._state()
            if state == self._seen:
                return False, self._value
            self._seen = state
            try:
                self._value = self._read([path.read_bytes() for path in self._paths])
            except (OSError, ValueError) as error:
                self._refused(error)
                return False, self._value
            return True, self._value

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_state_of(path) for path in self._paths)


def _state_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
