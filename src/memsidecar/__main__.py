"""``python -m memsidecar`` is the command ``memsidecar``."""

from memsidecar.cli.main import main

main()
