"""``memsidecar model``: the embedding model on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from memsidecar.cli.console import byte_progress, output_console
from memsidecar.config import Config
from memsidecar.embedding.install import install_model
from memsidecar.embedding.model_files import installed_directory

if TYPE_CHECKING:
    from rich.console import Console

    from memsidecar.embedding.model_sources import InstallProgress


@click.group()
def model() -> None:
    """Install the embedding model."""


@model.command()
@click.option(
    "--source",
    "model_source",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Directory with the published files, for a machine without a network.",
)
@click.option(
    "--directory",
    "model_directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to install it. Default: the cache of this user, or MEMSIDECAR_MODEL_DIRECTORY.",
)
def install(model_source: Path | None, model_directory: Path | None) -> None:
    """Fetch all-MiniLM-L6-v2, check it, and write it as ONNX.

    Does nothing when it is there and undamaged. Needs about 250 MB of free space while it runs and keeps
    about 150.
    """
    config = Config.from_environment(model_source=model_source, model_directory=model_directory)
    if not install_with_progress(config, output_console()):
        directory = installed_directory(config.model_directory)
        output_console().print(f"The embedding model is in {directory} already.", soft_wrap=True)


def install_with_progress(config: Config, console: Console) -> bool:
    """Install the model while a person watches; says whether there was anything to do."""
    with byte_progress(console) as progress:
        task = progress.add_task("model", total=None, start=False)
        shown_step = ""

        def report(now: InstallProgress) -> None:
            nonlocal shown_step
            if now.step != shown_step:
                shown_step = now.step
                if not console.is_terminal:
                    console.print(f"model: {now.step}", soft_wrap=True)
            progress.update(task, description=f"model: {now.step}", completed=now.done, total=now.total)

        installed = install_model(config.model_directory, prepared=config.model_source, report=report)
    if installed:
        directory = installed_directory(config.model_directory)
        console.print(f"The embedding model is installed in {directory}.", soft_wrap=True)
    return installed
