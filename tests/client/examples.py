"""The examples in the documents, taken out of them to be run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"<!-- (?P<mark>[^>]*?) -->\n```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)


def examples(document: str, mark: str) -> list[tuple[str, str]]:
    """Give language and text of every block of a document that stands below a comment starting with ``mark``."""
    found = [
        (block["language"], block["text"])
        for block in _BLOCK.finditer((ROOT / document).read_text())
        if block["mark"].startswith(mark)
    ]
    assert found, f"{document} has no block marked {mark!r}"
    return found


def documents() -> list[Path]:
    """Every document of the project."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "helm").rglob("*.md")]
    return sorted(path for path in found if path.name != "runbook.md")
