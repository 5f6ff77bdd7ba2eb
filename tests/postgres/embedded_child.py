"""A process that serves an embedded Postgres until it is told to stop, for tests that kill it.

It prints one line of JSON once Postgres runs or was refused. Ends in order on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from pathlib import Path

from memsidecar.domain.errors import SetupError
from memsidecar.postgres.embedded import EmbeddedPostgres
from memsidecar.postgres.embedded.installation import Installation, find_installation


async def serve(directory: Path, settings: dict[str, str], installation: Installation) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    postgres = EmbeddedPostgres(directory, settings=settings, installation=installation)
    try:
        await postgres.start()
    except SetupError as error:
        print(json.dumps({"what": error.problem.what, "remedy": error.problem.remedy}), flush=True)
        return
    print(json.dumps({"owner_url": postgres.urls.owner_url}), flush=True)
    await stopped.wait()
    await postgres.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--user", type=int, help="become this user first, which takes root")
    parser.add_argument("--installation", type=Path)
    arguments = parser.parse_args()
    installation = find_installation()
    if arguments.installation is not None:
        installation = Installation(arguments.installation, installation.version)
    if arguments.user is not None:
        os.setgroups([])
        os.setgid(arguments.user)
        os.setuid(arguments.user)
    asyncio.run(serve(arguments.directory, arguments.settings, installation))


if __name__ == "__main__":
    main()
