"""``memsidecar serve``: the server, from first start to a graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import rich_click as click
from rich.table import Table

from memsidecar import __version__
from memsidecar.app import embedded_directory, run_sidecar
from memsidecar.cli.console import error_console
from memsidecar.cli.databases import naming
from memsidecar.cli.main import verbose
from memsidecar.cli.settings import data_directory_option, model_directory_option
from memsidecar.cli.stop_signals import StopSignals
from memsidecar.config import Config
from memsidecar.embedding.model_files import installed_directory
from memsidecar.logs import set_up_logs

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from memsidecar.app import RunningSidecar

_LOGGER = logging.getLogger(__name__)


@click.command()
@click.option("--listen", metavar="ADDRESS", help="host:port, or unix:/path/to.sock (MEMSIDECAR_LISTEN).")
@data_directory_option
@model_directory_option
@click.pass_context
def serve(
    context: click.Context, listen: str | None, data_directory: Path | None, model_directory: Path | None
) -> None:
    """Serve memory over gRPC until SIGTERM or Ctrl-C.

    Without DATABASE_URL it runs a Postgres of its own in the data directory and keeps it migrated. The first
    start installs the embedding model.
    """
    config = Config.from_environment(
        listen=listen, data_directory=data_directory, model_directory=model_directory
    )
    set_up_logs(config.log_format, "debug" if verbose(context) else config.log_level)
    console = error_console()
    if not installed_directory(config.model_directory).is_dir():
        # What installs a model costs 39 MB of memory, and an image with the model in it leaves it out.
        from memsidecar.cli.model import install_with_progress  # noqa: PLC0415

        install_with_progress(config, console)
    asyncio.run(_serve(config, console))


async def _serve(config: Config, console: Console) -> None:
    stop = StopSignals()
    with contextlib.suppress(asyncio.CancelledError), naming(config.database_url):
        async with run_sidecar(config) as sidecar:
            _announce(config, sidecar, console)
            await stop.wait()
            _LOGGER.info("stopping: calls that run may finish within %g s", config.grace_seconds)
    _LOGGER.info("stopped")


def _announce(config: Config, sidecar: RunningSidecar, console: Console) -> None:
    facts = sidecar.facts
    _LOGGER.info(
        "serving",
        extra={
            "address": sidecar.address,
            "version": __version__,
            "postgres": facts.postgres_version,
            "pgvector": facts.pgvector_version,
            "embedded": config.embedded,
            "authentication": "credential" if config.requires_credential else "none",
            "tls": config.tls_certificate is not None,
        },
    )
    if not config.requires_credential:
        _LOGGER.warning("no authentication: whoever can reach %s can read and write", sidecar.address)
    elif config.tls_certificate is None and not config.listens_locally:
        _LOGGER.warning(
            "no TLS: credentials and memories cross the network in the clear, unless a proxy encrypts"
        )
    if console.is_terminal:
        console.print(startup_text(config, sidecar))


def startup_text(config: Config, sidecar: RunningSidecar) -> Table:
    """Say in a few lines what is running, for a person."""
    facts = sidecar.facts
    database = f"PostgreSQL {facts.postgres_version}, pgvector {facts.pgvector_version}"
    place = f"embedded in {embedded_directory(config)}" if config.embedded else f"as role {facts.role}"
    table = Table.grid(padding=(0, 2))
    table.title = f"memsidecar {__version__}"
    table.title_justify = "left"
    table.add_row("address", f"[bold]{sidecar.address}[/]")
    table.add_row("database", f"{database}, {place}")
    table.add_row("model", f"all-MiniLM-L6-v2, {config.model_precision}")
    if config.requires_credential:
        table.add_row("callers", "with a token; make one with [bold]memsidecar token create[/]")
    else:
        table.add_row("callers", "[yellow]anybody who reaches the address: there is no authentication[/]")
    table.add_row("stop", "Ctrl-C")
    return table
