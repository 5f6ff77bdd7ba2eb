"""What log lines look like."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest

from memsidecar.logs import set_up_logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def logged(stream: io.StringIO, log_format: str) -> str:
    set_up_logs(log_format, stream=stream)
    try:
        dict[str, str]()["lost"]
    except KeyError:
        logging.getLogger("memsidecar.test").exception("it %s", "failed", extra={"attempt": 3})
    logging.getLogger("memsidecar.test").debug("unseen")
    return stream.getvalue()


def test_json_lines_hold_message_fields_and_exception() -> None:
    [line] = logged(io.StringIO(), "auto").splitlines()
    entry = json.loads(line)
    assert entry["time"].endswith("Z")
    assert (entry["level"], entry["logger"], entry["message"]) == ("error", "memsidecar.test", "it failed")
    assert entry["attempt"] == 3
    assert "KeyError: 'lost'" in entry["exception"]


def test_a_terminal_gets_text() -> None:
    text = logged(Terminal(), "auto")
    assert "error" in text
    assert "it failed attempt=3" in text
    assert "KeyError: 'lost'" in text
    assert "\x1b[31m" in text


def test_text_without_a_terminal_has_no_colours() -> None:
    assert "\x1b" not in logged(io.StringIO(), "text")
