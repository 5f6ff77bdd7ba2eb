"""The command ``memsidecar`` as a process of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

PATIENCE_SECONDS = 60.0
COMMAND = [sys.executable, "-W", "error", "-m", "memsidecar"]
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Serving:
    """``memsidecar serve``, whose log is read as it is written."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        self.log: list[dict[str, Any]] = []
        self._written = threading.Condition()
        self._process = subprocess.Popen(
            [*COMMAND, "serve", "--listen", "127.0.0.1:0", *map(str, arguments)],
            env={**os.environ, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def address(self) -> str:
        """Where it serves, once it does."""
        return str(self.wait_for("serving")["address"])

    def wait_for(self, message: str) -> dict[str, Any]:
        """Wait for a log line that starts so."""
        with self._written:
            found = self._written.wait_for(lambda: self._line(message) or self.ended, PATIENCE_SECONDS)
            line = self._line(message)
            assert found, f"no {message!r} within {PATIENCE_SECONDS} s"
            assert line is not None, f"ended without {message!r}: {self.log}"
            return line

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end, and give the exit code."""
        code = self._process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return code

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.ended:
            self._process.terminate()
        self.wait()

    def _line(self, message: str) -> dict[str, Any] | None:
        return next((line for line in self.log if line["message"].startswith(message)), None)

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for text in stream:
                entry = json.loads(text) if text.startswith("{") else {"message": text.rstrip("\n")}
                with self._written:
                    self.log.append(entry)
                    self._written.notify_all()
        with self._written:
            self._written.notify_all()


def on_a_terminal(*arguments: object, until: str | None = None) -> tuple[int, str]:
    """Run a command on a terminal of its own, and give its exit code and what it showed, without colours.

    Args:
        arguments: Of the command.
        until: Send SIGTERM once this is on the screen.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        close_fds=True,
    )
    os.close(theirs)
    shown = ""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 0.1)[0]:
            continue
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not piece:
            break
        shown += piece.decode(errors="replace")
        if until is not None and until in _COLOURS.sub("", shown):
            process.send_signal(signal.SIGTERM)
            until = None
    code = process.wait(PATIENCE_SECONDS)
    os.close(ours)
    return code, _COLOURS.sub("", shown).replace("\r\n", "\n")
