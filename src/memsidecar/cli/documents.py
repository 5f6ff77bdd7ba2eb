"""``memsidecar ingest`` and ``memsidecar search``: documents in, passages out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click
from rich.markup import escape

from memsidecar.cli.console import error_console, item_progress, output_console, print_indented
from memsidecar.cli.failures import CommandFailed, ended
from memsidecar.cli.servers import open_server, server_option
from memsidecar.client import DocumentScope, DocumentType, NewDocument
from memsidecar.domain.errors import Problem

if TYPE_CHECKING:
    from rich.console import Console

    from memsidecar.client import DocumentHit, IngestionJob, MemoryClient


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--user", default="", help="Whose documents they are.")
@click.option("--global", "is_global", is_flag=True, help="Visible to every user of the tenant.")
@click.option(
    "--type",
    "document_type",
    type=click.Choice([each.value for each in DocumentType]),
    help="Default: guessed.",
)
@click.option(
    "--language", default="", help="Language of word search, for example german. Default: the tenant's."
)
@server_option
def ingest(
    files: tuple[Path, ...],
    user: str,
    document_type: str | None,
    language: str,
    server: str | None,
    *,
    is_global: bool,
) -> None:
    """Take in FILES as documents, and wait until it is done.

    A file is known by the path that was given: the same content again costs nothing, other content replaces it.
    """
    if not user and not is_global:
        raise click.UsageError("say whose documents they are: --user NAME, or --global for everybody's")
    documents = [
        NewDocument(
            document_key=str(file),
            content=_content(file),
            user_id=user,
            is_global=is_global,
            document_type=None if document_type is None else DocumentType(document_type),
            language=language,
        )
        for file in files
    ]
    with open_server(server) as client:
        job = _watched(client, client.ingest_many(documents))
    taken_in = job.processed_documents - job.unchanged_documents
    output_console().print(
        f"{taken_in} documents taken in, {job.unchanged_documents} unchanged, {job.failed_documents} failed."
    )
    if job.processed_documents < job.total_documents:
        raise CommandFailed(
            [Problem(ended(f"{error.document}: {error.error}"), "") for error in job.errors]
            or [Problem(f"Job {job.job_id} ended as {job.status}.", "Try again.")]
        )


@click.command()
@click.argument("query")
@click.option("--user", default="", help="See what this user sees: own documents, and everybody's.")
@click.option("-k", "--top-k", type=click.IntRange(1, 200), default=10, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one hit a line.")
@server_option
def search(query: str, user: str, top_k: int, server: str | None, *, as_json: bool) -> None:
    """Search documents by meaning and by word at once, best first.

    In QUERY, "exact words" must stand together and -word must not occur.
    """
    with open_server(server) as client:
        found = client.search(query, DocumentScope(user_id=user), top_k=top_k)
    if as_json:
        for hit in found.hits:
            click.echo(json.dumps(asdict(hit), ensure_ascii=False, default=str))
        return
    console = output_console()
    for hit in found.hits:
        _show(console, hit)
    if not found.hits:
        click.echo("No document there matches.", err=True)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CommandFailed(
            [Problem(f"{file} cannot be read: {error.strerror}.", "Give the path of a file.")]
        ) from error


def _watched(client: MemoryClient, job: IngestionJob) -> IngestionJob:
    with item_progress(error_console()) as progress:
        task = progress.add_task("taking in documents", total=job.total_documents)
        for now in client.watch_job(job.job_id):
            job = now
            progress.update(task, completed=now.processed_documents + now.failed_documents)
    return job


def _show(console: Console, hit: DocumentHit) -> None:
    place = " > ".join(hit.chunk.heading_path)
    page = f", page {hit.chunk.page_number}" if hit.chunk.page_number else ""
    console.print(
        f"[green]{hit.score:.2f}[/]  [cyan]{escape(hit.document.document_key)}[/]{page}  [dim]{escape(place)}[/]",
        soft_wrap=True,
    )
    print_indented(console, hit.chunk.text, 6)
