"""``memsidecar completion``: completion of commands and options in a shell."""

from __future__ import annotations

import rich_click as click
from click.shell_completion import get_completion_class

from memsidecar.cli.main import command_line


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands and options.

    For bash: memsidecar completion bash > ~/.local/share/bash-completion/completions/memsidecar
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(kind(command_line, {}, "memsidecar", "_MEMSIDECAR_COMPLETE").source())
