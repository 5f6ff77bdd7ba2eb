"""Write the pinned, hashed requirement files from ``pyproject.toml``; ``--check`` only says whether they are stale."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGETS = {
    "build": ["--group", "build"],
    "runtime": ["pyproject.toml", "--extra", "embedded", "--extra", "tracing"],
    "image": ["pyproject.toml", "--extra", "tracing"],
    "dev": ["pyproject.toml", "--extra", "embedded", "--extra", "tracing", "--group", "dev"],
}


def compile_requirements(name: str, *, upgrade: bool) -> str:
    """Resolve one target for Python 3.11 to 3.13 and give the file's new text."""
    path = ROOT / "requirements" / f"{name}.txt"
    command = [
        "uv", "pip", "compile", *TARGETS[name],
        "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate",
        "--no-emit-index-url", "--no-emit-find-links", "--quiet",
    ]  # fmt: skip
    if upgrade:
        command.append("--upgrade")
    if path.exists():
        command += ["--output-file", str(path)]
        before = path.read_text()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        after = path.read_text()
        path.write_text(before)
        return after
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Write or check ``requirements/*.txt``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    arguments = parser.parse_args()
    stale = []
    for name in TARGETS:
        path = ROOT / "requirements" / f"{name}.txt"
        text = compile_requirements(name, upgrade=arguments.upgrade)
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if not arguments.check:
                path.write_text(text)
    if arguments.check and stale:
        sys.exit(f"stale: {', '.join(stale)}; run ./dev lock")


if __name__ == "__main__":
    main()
