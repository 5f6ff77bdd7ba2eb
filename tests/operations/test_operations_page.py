"""Runs the commands of docs/operations.md in their order, on a Postgres of their own."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import grpc
import pytest

from memsidecar.postgres.embedded import temporary_postgres
from memsidecar.postgres.embedded.installation import find_installation
from memsidecar.postgres.embedded.urls import SUPERUSER
from memsidecar.v1 import common_pb2
from memsidecar.v1 import conversation_memory_pb2 as pb
from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceStub
from tests.telemetry.http_client import read_metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from memsidecar.app import RunningSidecar

PAGE = (Path(__file__).resolve().parents[2] / "docs/operations.md").read_text()
BLOCKS = re.findall(r"<!-- run -->\n```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
async def environment(model_directory: Path) -> AsyncIterator[dict[str, str]]:
    """The variables the page speaks of, and the programs on the path."""
    programs = [
        str(find_installation().program("psql").parent),
        str(Path(sys.executable).parent),
        os.environ["PATH"],
    ]
    async with temporary_postgres() as postgres:
        urls = postgres.urls
        yield {
            **os.environ,
            "PATH": os.pathsep.join(programs),
            "MEMSIDECAR_MODEL_DIRECTORY": str(model_directory),
            "ADMIN_URL": urls.for_role(SUPERUSER, "postgres"),
            "MEMORY_ADMIN_URL": urls.for_role(SUPERUSER, "memory"),
            "RESTORED_ADMIN_URL": urls.for_role(SUPERUSER, "memory_restored"),
            "MEMSIDECAR_OWNER_DATABASE_URL": urls.for_role("memory_owner", "memory"),
            "DATABASE_URL": urls.for_role("memory_app", "memory"),
            "RESTORED_URL": urls.for_role("memory_app", "memory_restored"),
            "MEMSIDECAR_ERASER_DATABASE_URL": urls.for_role("memory_eraser", "memory"),
            "BACKUP_URL": urls.for_role("memory_backup", "memory"),
        }


async def sh(script: str, environment: dict[str, str], folder: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-ec",
        script,
        env=environment,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def remember(channel: grpc.aio.Channel, content: str) -> None:
    stub: Any = ConversationMemoryServiceStub(channel)
    turn = pb.NewTurn(
        agent_id=str(uuid4()),
        user_id="u1",
        conversation_id="c1",
        role=common_pb2.ROLE_USER,
        content=content,
    )
    await stub.AppendTurn(pb.AppendTurnRequest(turn=turn))


async def test_every_command_does_what_the_page_says(
    environment: dict[str, str], start_sidecar: Callable[..., Any], tmp_path: Path
) -> None:
    prepare, migrate, backup, restore, upgrade = BLOCKS
    for block in (prepare, migrate):
        status, said = await sh(block, environment, tmp_path)
        assert status == 0, said
    async with (
        start_sidecar(database_url=environment["DATABASE_URL"]) as sidecar,
        grpc.aio.insecure_channel(sidecar.address) as channel,
    ):
        await remember(channel, "The ferry leaves at seven.")
    status, said = await sh(backup, environment, tmp_path)
    assert status == 0, said
    owners_dump = 'pg_dump "$MEMSIDECAR_OWNER_DATABASE_URL" --file=owner.dump'
    status, said = await sh(owners_dump, environment, tmp_path)
    assert status != 0
    assert "would be affected by row-level security policy" in said
    for block in (restore, upgrade):
        status, said = await sh(block, environment, tmp_path)
        assert status == 0, said
    async with (
        start_sidecar(database_url=environment["RESTORED_URL"]) as sidecar,
        grpc.aio.insecure_channel(sidecar.address) as channel,
    ):
        stub: Any = ConversationMemoryServiceStub(channel)
        found = await stub.RecallSimilar(pb.RecallSimilarRequest(query="when does the boat leave"))
        assert [hit.turn.content for hit in found.hits] == ["The ferry leaves at seven."]
        await remember(channel, "And at nine on Sundays.")
    connection = await asyncpg.connect(environment["RESTORED_URL"])
    assert await connection.fetchval("SELECT count(*) FROM conversation_embeddings") == 0
    await connection.close()


async def test_the_page_lists_every_metric(
    start_sidecar: Callable[..., Any],
) -> None:
    sidecar: RunningSidecar
    async with start_sidecar(admin_listen="127.0.0.1:0") as sidecar:
        metrics = await read_metrics(sidecar.admin_address)
    listed = set(re.findall(r"`(memsidecar_[a-z_]+)`", PAGE))
    made = {
        sample.name
        for family in metrics.families
        for sample in family.samples
        if family.name.startswith("memsidecar_") and not sample.name.endswith("_created")
    }
    made = {re.sub(r"_(bucket|count|sum)$", "", name) for name in made}
    assert made <= listed
    families = {family.name for family in metrics.families}
    roles = {"memsidecar_app", "memsidecar_eraser"}
    assert {name.removesuffix("_total") for name in listed - roles} <= families
