"""The command ``memsidecar``: its subcommands, loaded when they are used, and how it ends when one fails."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

import rich_click as click

from memsidecar import __version__
from memsidecar.cli.console import error_console
from memsidecar.cli.failures import CommandFailed, problems_of
from memsidecar.domain.errors import DomainError, Problem
from memsidecar.logs import set_up_logs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

SUBCOMMANDS: Final = {
    "demo": ("memsidecar.cli.demo.command:demo", "Watch a memory at work: a conversation in, answers out."),
    "serve": ("memsidecar.cli.serve:serve", "Serve memory over gRPC until stopped."),
    "check": ("memsidecar.cli.check:check", "Say whether a deployment is healthy, and what to do if not."),
    "maintain": ("memsidecar.cli.maintain:maintain", "Do what is due from time to time."),
    "health": ("memsidecar.cli.health:health", "Say by the exit status whether a server is ready."),
    "append": ("memsidecar.cli.turns:append", "Store one turn."),
    "recall": ("memsidecar.cli.turns:recall", "Find turns that matter for a question."),
    "import": ("memsidecar.cli.import_turns:import_turns", "Store many turns from files of JSON Lines."),
    "ingest": ("memsidecar.cli.documents:ingest", "Take in documents."),
    "search": ("memsidecar.cli.documents:search", "Search documents by meaning and by word."),
    "tenant": ("memsidecar.cli.tenants:tenant", "Make and list tenants."),
    "token": ("memsidecar.cli.tokens:token", "Make, list and revoke API tokens."),
    "migrate": ("memsidecar.cli.migrate:migrate", "Bring the database to the schema this version needs."),
    "model": ("memsidecar.cli.model:model", "Install the embedding model."),
    "completion": ("memsidecar.cli.completion:completion", "Print a shell's completion script."),
}
"""Where each subcommand is, and its one line of help, so that help and completion load none of them."""


class LazyGroup(click.RichGroup):
    """A group that imports a subcommand when it is called: the parts of the server load for seconds."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Name the subcommands in the order of their table."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Give a subcommand, or before it is loaded one that only knows its name and help."""
        if cmd_name in SUBCOMMANDS and cmd_name not in self.commands:
            return click.RichCommand(name=cmd_name, help=SUBCOMMANDS[cmd_name][1])
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Load the subcommand that is about to run or to be completed."""
        if args and args[0] in SUBCOMMANDS:
            module, _, name = SUBCOMMANDS[args[0]][0].partition(":")
            self.add_command(getattr(importlib.import_module(module), name), args[0])
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.command_panel("Start here", commands=["demo", "serve", "check"])
@click.command_panel("Talk to a running server", commands=["append", "recall", "import", "ingest", "search"])
@click.command_panel(
    "Look after a deployment",
    commands=["tenant", "token", "migrate", "maintain", "health", "model", "completion"],
)
@click.version_option(__version__, prog_name="memsidecar")
@click.option("--verbose", is_flag=True, help="Log more, and show the traceback of an unexpected error.")
@click.pass_context
def command_line(context: click.Context, *, verbose: bool) -> None:
    """Long-term memory for chat agents, kept in your own Postgres.

    Settings come from the environment; docs/configuration.md lists them all.
    """
    context.obj = verbose
    set_up_logs("auto", "debug" if verbose else "warning")


def main() -> NoReturn:
    """Be the command ``memsidecar``."""
    signal.signal(signal.SIGTERM, _end)
    run(sys.argv[1:])


def run(arguments: Sequence[str]) -> NoReturn:
    """Run a command and end: with 0 when all went well, 1 on a failure, 2 on wrong usage.

    Raises:
        SystemExit: Always.
    """
    try:
        command_line.main(args=list(arguments), prog_name="memsidecar")
    except CommandFailed as error:
        _show(error.problems)
    except DomainError as error:
        _show(problems_of(error))
    except Exception as error:
        if logging.getLogger().isEnabledFor(logging.DEBUG):
            raise
        _show([_unexpected(error)])
    sys.exit(1)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def _show(problems: Sequence[Problem]) -> None:
    console = error_console()
    for problem in problems:
        console.print(f"[red]error:[/] {_plain(problem.what)}", soft_wrap=True)
        if problem.remedy:
            console.print(f"       {_plain(problem.remedy)}", soft_wrap=True)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _unexpected(error: Exception) -> Problem:
    return Problem(
        f"Something unexpected went wrong: {type(error).__name__}.",
        "Run 'memsidecar --verbose ...' to see where, and please report it.",
    )


def verbose(context: click.Context) -> bool:
    """Say whether ``--verbose`` was given."""
    return bool(context.find_root().obj)
