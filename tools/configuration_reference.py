"""Write ``docs/configuration.md`` from the settings' own help; ``--check`` only says whether it is stale."""

from __future__ import annotations

import argparse
import sys
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from memsidecar.config import Config

TARGET = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
HEADER = """# Configuration

Made from `src/memsidecar/config.py` by `./dev generate`.

Everything is set by environment variables. A few commands take some of them as options, which then win. A value of the
wrong form keeps the program from starting, with a sentence for each; secrets never show in logs.

| variable | default | meaning |
| --- | --- | --- |
"""


def default_of(setting: Field[Any]) -> str:
    """Say what holds when a setting is not made."""
    if setting.default_factory is not MISSING:
        return "depends on the user"
    return "" if setting.default is None else f"`{setting.default}`"


def render() -> str:
    """Give the whole document."""
    rows = (
        f"| `{setting.metadata['variable']}` | {default_of(setting)} | {setting.metadata['help']} |"
        for setting in fields(Config)
    )
    return HEADER + "\n".join(rows) + "\n"


def main() -> None:
    """Write or check the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the document is stale")
    if parser.parse_args().check:
        if not TARGET.exists() or TARGET.read_text() != render():
            sys.exit("docs/configuration.md is stale; run ./dev generate")
        return
    TARGET.write_text(render())


if __name__ == "__main__":
    main()
