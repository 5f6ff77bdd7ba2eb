"""Hold the contract against the released one (``proto/released.binpb``); ``--release`` takes today's for it."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

PROTO = Path(__file__).resolve().parent.parent / "proto"
RELEASED = PROTO / "released.binpb"


def main() -> None:
    """Run ``buf breaking``, or write the released image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", action="store_true", help="take today's contract as the released one")
    if parser.parse_args().release:
        command = ["buf", "build", str(PROTO), "--exclude-source-info", "-o", str(RELEASED)]
    else:
        command = [
            "buf",
            "breaking",
            str(PROTO),
            "--against",
            str(RELEASED),
            "--config",
            str(PROTO / "buf.yaml"),
        ]
    sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
