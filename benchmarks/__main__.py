"""``python -m benchmarks NAME [--quick] [--data DIR] [--json FILE]``."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from pkgutil import iter_modules

from benchmarks.machine import describe_machine
from benchmarks.options import Options


def _names() -> list[str]:
    """Benchmarks are the modules here that have a ``run``."""
    folder = str(Path(__file__).parent)
    return sorted(
        module.name
        for module in iter_modules([folder])
        if "\ndef run(options: Options)" in Path(folder, f"{module.name}.py").read_text()
    )


def main() -> None:
    """Run one benchmark: a table for people, then one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure memsidecar.")
    parser.add_argument("name", choices=_names())
    parser.add_argument("--quick", action="store_true", help="a smaller run that ends within about a minute")
    parser.add_argument("--data", type=Path, help="directory with the labelled data sets")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments, extra = parser.parse_known_args()
    started = time.monotonic()
    module = importlib.import_module(f"benchmarks.{arguments.name}")
    figures = module.run(Options(arguments.quick, arguments.data, tuple(extra)))
    line = json.dumps(
        {
            "benchmark": arguments.name,
            "quick": arguments.quick,
            "seconds": round(time.monotonic() - started, 1),
            "machine": describe_machine(),
            "figures": figures,
        }
    )
    if arguments.json:
        arguments.json.write_text(line + "\n")
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
