"""Every static check of the project, in one command; says at the end which of them failed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CHECKS: dict[str, list[str]] = {
    "format": ["ruff", "format", "--check", "--quiet", "."],
    "lint": ["ruff", "check", "--quiet", "."],
    "types": ["mypy"],
    "layers": ["lint-imports", "--no-cache"],
    "proto lint": ["buf", "lint", "proto"],
    "proto breaking": ["python", "-m", "tools.breaking"],
    "generated code": ["python", "-m", "tools.generate", "--check"],
    "API reference": ["python", "-m", "tools.api_reference", "--check"],
    "configuration reference": ["python", "-m", "tools.configuration_reference", "--check"],
    "lock files": ["python", "-m", "tools.lock", "--check"],
}


def main() -> None:
    """Run the checks, all or those named on the command line."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    wanted = sys.argv[1:] or list(CHECKS)
    failed = []
    for name in wanted:
        started = time.monotonic()
        result = subprocess.run(
            CHECKS[name], cwd=ROOT, env=environment, check=False, text=True, capture_output=True
        )
        print(
            f"{'ok    ' if result.returncode == 0 else 'FAILED'} {name} ({time.monotonic() - started:.1f} s)"
        )
        if result.returncode != 0:
            failed.append(name)
            print(result.stdout + result.stderr)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
