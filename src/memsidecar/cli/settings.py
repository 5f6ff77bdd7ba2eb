"""Options that several commands share; each overrides the environment variable its help names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

if TYPE_CHECKING:
    from collections.abc import Callable

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

data_directory_option: Decorator = click.option(
    "--data-directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the embedded Postgres keeps its data (MEMSIDECAR_DATA_DIRECTORY).",
)
model_directory_option: Decorator = click.option(
    "--model-directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the embedding model is (MEMSIDECAR_MODEL_DIRECTORY).",
)
