"""``memsidecar demo``: serves a sidecar of its own, puts a conversation in, asks questions about it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from memsidecar.app import run_sidecar
from memsidecar.cli.console import error_console, output_console
from memsidecar.cli.demo import conversation
from memsidecar.cli.demo.display import DemoDisplay
from memsidecar.cli.model import install_with_progress
from memsidecar.cli.stop_signals import StopSignals
from memsidecar.client import AsyncMemoryClient, TurnScope, UnimplementedError
from memsidecar.config import Config
from memsidecar.postgres.embedded.temporary import make_temporary_folder, temporary_parent

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP_K = 2
"""Hits shown for a question: the answer, and what came next to compare it with."""


@click.command()
@click.option(
    "--data-directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the memory in this directory. Default: a temporary one, gone afterwards.",
)
@click.option(
    "--listen", default="127.0.0.1:0", metavar="ADDRESS", help="Where to serve. Default: any free port."
)
@click.option("--stay", is_flag=True, help="Go on serving until Ctrl-C, to ask questions of your own.")
def demo(data_directory: Path | None, listen: str, *, stay: bool) -> None:
    """Watch a memory at work.

    Starts a sidecar with a Postgres of its own, stores six weeks of a support channel, and asks it questions.
    Needs neither a database nor root; the first run installs the embedding model.
    """
    with _directory(data_directory) as directory:
        given = Config.from_environment()
        # Whatever server is configured here stays untouched: only what is about the model is taken over.
        config = Config.from_environment(
            {},
            listen=listen,
            data_directory=directory,
            model_directory=given.model_directory,
            model_source=given.model_source,
            model_precision=given.model_precision,
            embedding_threads=given.embedding_threads,
        )
        install_with_progress(config, error_console())
        asyncio.run(_run(config, DemoDisplay(output_console()), stay=stay))


@contextlib.contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    folder = make_temporary_folder(temporary_parent())
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(config: Config, display: DemoDisplay, *, stay: bool) -> None:
    display.begins()
    started = time.perf_counter()
    async with run_sidecar(config) as sidecar, AsyncMemoryClient(sidecar.address) as memory:
        display.serving(sidecar.address, await memory.server_info(), time.perf_counter() - started)
        await _store(memory, display)
        await _ask(memory, display)
        await _ask_handbook(memory, display)
        if stay:
            stop = StopSignals()
            display.stays(sidecar.address)
            await stop.wait()
    display.ends()


async def _store(memory: AsyncMemoryClient, display: DemoDisplay) -> None:
    turns = conversation.turns()
    started = time.perf_counter()
    results = [await memory.append(turn) for turn in turns]
    display.stored(turns, results, time.perf_counter() - started)


async def _ask(memory: AsyncMemoryClient, display: DemoDisplay) -> None:
    for number, question in enumerate(conversation.QUESTIONS, start=1):
        scope = TurnScope(
            agent_id=conversation.AGENT_ID, user_id=conversation.USER_ID, occurred=question.occurred
        )
        started = time.perf_counter()
        recall = await memory.recall(question.text, scope, top_k=TOP_K, neighbours=1, explain=True)
        display.answered(number, question, recall, time.perf_counter() - started)


async def _ask_handbook(memory: AsyncMemoryClient, display: DemoDisplay) -> None:
    with contextlib.suppress(UnimplementedError):
        job = await memory.ingest(conversation.handbook())
        await memory.wait_for_job(job.job_id)
        started = time.perf_counter()
        search = await memory.search(conversation.DOCUMENT_QUESTION, top_k=1)
        display.found(
            len(conversation.QUESTIONS) + 1,
            conversation.DOCUMENT_QUESTION,
            search,
            time.perf_counter() - started,
        )
