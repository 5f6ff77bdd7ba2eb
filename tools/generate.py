"""Write the Python code of the gRPC contract from ``proto/``; ``--check`` only says whether it is stale."""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("memsidecar/v1")
INIT = '"""Generated from proto/memsidecar/v1: do not edit, run ./dev generate."""\n'


def generate(target: Path) -> None:
    """Write messages, stubs and their types for every proto file under ``target``."""
    protos = sorted(str(path) for path in (ROOT / "proto" / PACKAGE).glob("*.proto"))
    well_known = str(resources.files("grpc_tools") / "_proto")
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={ROOT / 'proto'}",
            f"--proto_path={well_known}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out=quiet:{target}",
            f"--mypy_grpc_out=quiet:{target}",
            *protos,
        ]
    )
    if status != 0:
        sys.exit("protoc failed")
    (target / PACKAGE / "__init__.py").write_text(INIT)


def contents(folder: Path) -> dict[str, str]:
    """Text of every generated file, by name."""
    return {path.name: path.read_text() for path in sorted(folder.glob("*.py*")) if path.is_file()}


def main() -> None:
    """Write or check ``src/memsidecar/v1``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the code is stale")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch)
        generate(target)
        fresh = contents(target / PACKAGE)
    committed_folder = ROOT / "src" / PACKAGE
    if arguments.check:
        if fresh != contents(committed_folder):
            sys.exit("src/memsidecar/v1 is stale; run ./dev generate")
        return
    for path in committed_folder.glob("*.py*"):
        if path.is_file():
            path.unlink()
    for name, text in fresh.items():
        (committed_folder / name).write_text(text)


if __name__ == "__main__":
    main()
