"""``memsidecar check``: is this deployment healthy, and what to do if not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import rich_click as click
from rich.markup import escape

from memsidecar.app import embedded_directory, open_databases
from memsidecar.cli.console import output_console
from memsidecar.cli.databases import database_place
from memsidecar.cli.failures import problems_of
from memsidecar.cli.servers import IMPATIENT, connect, explained
from memsidecar.cli.settings import data_directory_option, model_directory_option
from memsidecar.client import MemoryServiceError
from memsidecar.config import Config
from memsidecar.domain.errors import DomainError, Problem
from memsidecar.embedding.model_files import Precision, open_installed
from memsidecar.postgres.database import Database
from memsidecar.postgres.deployment import read_connection_room, read_facts, serving_problems

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from memsidecar.postgres.deployment import ConnectionRoom


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one part of a deployment."""

    part: str
    good: str = ""
    """What is as it should be; empty when something is not."""
    problems: tuple[Problem, ...] = ()


@click.command()
@click.option("--listen", metavar="ADDRESS", help="Where the server listens (MEMSIDECAR_LISTEN).")
@click.option("--no-server", is_flag=True, help="Do not expect a running server: check before it is started.")
@data_directory_option
@model_directory_option
def check(
    *, listen: str | None, data_directory: Path | None, model_directory: Path | None, no_server: bool
) -> None:
    """Say whether a deployment is healthy, and what to do if not.

    Looks at the configuration, the embedding model, the database (versions, schema, role, row-level security, room for
    the connection pool) and the running server. Ends with 1 when anything is wrong.
    """
    config = Config.from_environment(
        listen=listen, data_directory=data_directory, model_directory=model_directory
    )
    findings = [_check_model(config), *asyncio.run(_check_database(config))]
    if not no_server:
        findings.append(_check_server(config))
    console = output_console()
    for finding in findings:
        _show(console, finding)
    if any(finding.problems for finding in findings):
        raise SystemExit(1)


def _check_model(config: Config) -> Finding:
    try:
        model = open_installed(config.model_directory, Precision(config.model_precision))
    except DomainError as error:
        return Finding("model", problems=tuple(problems_of(error)))
    return Finding("model", f"{model.identity.name} ({model.identity.precision}) in {model.graph.parent}")


async def _check_database(config: Config) -> list[Finding]:
    if config.embedded and not embedded_directory(config).exists():
        return [
            Finding("database", f"none yet; 'memsidecar serve' makes one in {embedded_directory(config)}")
        ]
    try:
        async with open_databases(config, join=True) as databases:
            database = await Database.connect(databases.app_url, max_connections=1)
            try:
                return await _findings(config, database, databases.app_url)
            finally:
                await database.close()
    except DomainError as error:
        problems = problems_of(error)
        if config.database_url is not None:
            place = database_place(config.database_url)
            problems = [Problem(f"{place}: {each.what}", each.remedy) for each in problems]
        return [Finding("database", problems=tuple(problems))]


async def _findings(config: Config, database: Database, url: str) -> list[Finding]:
    facts = await read_facts(database)
    room = await read_connection_room(database)
    findings = [
        Finding(
            "database",
            f"PostgreSQL {facts.postgres_version}, pgvector {facts.pgvector_version}, at {database_place(url)}",
        )
    ]
    problems = serving_problems(facts)
    if problems:
        findings.append(Finding("schema", problems=tuple(problems)))
    else:
        findings.append(
            Finding(
                "schema",
                f"revision {facts.schema.current}; role {facts.role} is bound by row-level security everywhere",
            )
        )
    return [*findings, _check_pool(config, room)]


def _check_pool(config: Config, room: ConnectionRoom) -> Finding:
    if room.for_this_role >= config.pool_size:
        return Finding(
            "pool", f"{config.pool_size} connections fit: {room.open} of {room.allowed} are in use"
        )
    problem = Problem(
        f"The database allows {room.allowed} connections and has {room.open} open:"
        f" a pool of {config.pool_size} does not fit.",
        "Raise max_connections, lower MEMSIDECAR_POOL_SIZE, or put a PgBouncer in between.",
    )
    return Finding("pool", problems=(problem,))


def _check_server(config: Config) -> Finding:
    try:
        with connect(config, IMPATIENT) as client:
            if not client.health():
                problem = Problem(
                    f"The server at {config.listen} runs but is not serving.",
                    "Its database does not answer: see the lines on the database, and the server's log.",
                )
                return Finding("server", problems=(problem,))
            return Finding("server", f"serving at {config.listen}")
    except MemoryServiceError as error:
        return Finding("server", problems=tuple(explained(error, config)))


def _show(console: Console, finding: Finding) -> None:
    if not finding.problems:
        console.print(f"[green]ok[/]     {finding.part:<9} {escape(finding.good)}", soft_wrap=True)
    for problem in finding.problems:
        console.print(f"[red]WRONG[/]  {finding.part:<9} {escape(problem.what)}", soft_wrap=True)
        if problem.remedy:
            console.print(f"                 {escape(problem.remedy)}", soft_wrap=True)
