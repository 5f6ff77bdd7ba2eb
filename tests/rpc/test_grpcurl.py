"""Every RPC can be called by hand with grpcurl, over reflection alone."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf import descriptor_pool

from memsidecar.rpc.server import SERVICES

if TYPE_CHECKING:
    from memsidecar.app import RunningSidecar

_OWN_TOOLS = Path(__file__).resolve().parents[2] / "bin"
GRPCURL = shutil.which("grpcurl", path=f"{_OWN_TOOLS}{os.pathsep}{os.environ.get('PATH', '')}")

pytestmark = pytest.mark.skipif(
    GRPCURL is None,
    reason="grpcurl is not here: go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3",
)

METHODS = [
    f"{service}/{method.name}"
    for service in SERVICES
    for method in descriptor_pool.Default().FindServiceByName(service).methods
]


async def grpcurl(*arguments: str) -> tuple[int, str]:
    assert GRPCURL is not None
    process = await asyncio.create_subprocess_exec(
        GRPCURL, "-plaintext", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _nothing = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_every_method_is_described(sidecar: RunningSidecar) -> None:
    for service in SERVICES:
        code, output = await grpcurl(sidecar.address, "list", service)
        assert code == 0, output
        assert set(output.split()) == {
            f"{service}.{method.rpartition('/')[2]}" for method in METHODS if method.startswith(f"{service}/")
        }


async def test_every_method_answers_in_words(sidecar: RunningSidecar) -> None:
    """An empty request is either fine or refused with what to change; never unknown, never a defect."""
    for method in METHODS:
        code, output = await grpcurl("-max-time", "10", "-d", "{}", sidecar.address, method)
        assert "Unimplemented" not in output, method
        assert "Internal" not in output, f"{method}: {output}"
        if code != 0:
            assert "google.rpc.ErrorInfo" in output, f"{method}: {output}"


async def test_a_turn_goes_in_and_comes_back(sidecar: RunningSidecar) -> None:
    turn = {
        "agent_id": "018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071",
        "user_id": "U1",
        "conversation_id": "C1",
        "role": "ROLE_USER",
        "content": "Our standup moved to half past nine",
        "event": {"source": "slack:T1/C1", "event_id": "1700000000.000100"},
    }
    service = "memsidecar.v1.ConversationMemoryService"
    code, output = await grpcurl("-d", json.dumps({"turn": turn}), sidecar.address, f"{service}/AppendTurn")
    assert code == 0, output
    query = {"query": "When is the standup?", "scope": {"user_id": "U1"}, "explain": True}
    code, output = await grpcurl("-d", json.dumps(query), sidecar.address, f"{service}/RecallSimilar")
    assert code == 0, output
    [hit] = json.loads(output)["hits"]
    assert hit["turn"]["content"] == turn["content"]
    assert {part["name"] for part in hit["parts"]} >= {"vector", "lexical", "session"}
