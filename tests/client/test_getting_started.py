"""The commands of docs/getting-started.md, run as they stand there."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from memsidecar.app import run_sidecar
from memsidecar.client import AsyncMemoryClient
from memsidecar.config import Config
from memsidecar.postgres.embedded import temporary_postgres
from memsidecar.postgres.embedded.urls import SUPERUSER
from tests.client.examples import ROOT, examples

if TYPE_CHECKING:
    from memsidecar.app import RunningSidecar
    from memsidecar.embedding.engine import OnnxEmbedder
    from tests.conftest import TestDatabase

DOCUMENT = "docs/getting-started.md"


async def test_every_example_runs(sidecar: RunningSidecar, test_database: TestDatabase) -> None:
    environment = {
        "DATABASE_URL": test_database.app_url,
        "MEMSIDECAR_LISTEN": sidecar.address,
        "MEMSIDECAR_OWNER_DATABASE_URL": test_database.owner_url,
    }
    outputs = [
        await asyncio.to_thread(_run, language, text.replace("127.0.0.1:7700", sidecar.address), environment)
        for language, text in examples(DOCUMENT, "run")
    ]
    one_machine, conversation, documents, bot, tokens = outputs
    assert "No prawns or crab" in one_machine
    assert "ok     server" in one_machine
    assert "31 turns stored" in conversation
    assert "A rider came back at noon" in conversation
    assert "fourteen days" in documents
    assert "Dana Whitfield: No prawns or crab for me please, my throat swells up." in bot
    assert "append, recall" in tokens


async def test_a_database_of_ones_own_is_set_up_as_described(embedder: OnnxEmbedder, tmp_path: Path) -> None:
    text = (ROOT / DOCUMENT).read_text()
    [roles] = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    [arguments] = re.findall(r"^memsidecar migrate (.*)$", text, re.MULTILINE)
    async with temporary_postgres() as postgres:
        before, after = roles.split("\\connect memory\n")
        await _execute(postgres.urls.for_role(SUPERUSER, "postgres"), before)
        await _execute(postgres.urls.for_role(SUPERUSER, "memory"), after)
        owner, app, eraser = (
            postgres.urls.for_role(f"memory_{role}", "memory") for role in ("owner", "app", "eraser")
        )
        environment = {"MEMSIDECAR_OWNER_DATABASE_URL": owner, "DATABASE_URL": app}
        migrated = await asyncio.to_thread(_run, "sh", f"memsidecar migrate {arguments}", environment)
        assert "it was at none" in migrated
        config = Config.from_environment(
            {}, database_url=app, owner_database_url=owner, eraser_database_url=eraser, listen="127.0.0.1:0"
        )
        async with (
            run_sidecar(replace(config, data_directory=tmp_path), embedder) as sidecar,
            AsyncMemoryClient(sidecar.address) as client,
        ):
            assert await client.health()


async def _execute(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements.split(";\n"):
            if statement.strip():
                await connection.execute(statement)
    finally:
        await connection.close()


def _run(language: str, text: str, environment: dict[str, str]) -> str:
    command: list[Any] = {
        "sh": ["bash", "-euo", "pipefail", "-c"],
        "python": [sys.executable, "-W", "error", "-c"],
    }[language]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MEMSIDECAR_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    finished = subprocess.run(
        [*command, text],
        cwd=ROOT,
        env={**kept, **environment, "PATH": path},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout
