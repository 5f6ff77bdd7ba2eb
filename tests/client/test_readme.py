"""What the README promises: its examples run and print what it says, its links lead somewhere."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.client.examples import ROOT, documents, examples

if TYPE_CHECKING:
    from pathlib import Path

    from memsidecar.app import RunningSidecar

ADDRESS = "127.0.0.1:7700"
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")


async def test_its_python_and_grpcurl_examples_do_what_they_say(sidecar: RunningSidecar) -> None:
    (python, program), (shell, command) = examples("README.md", "run by")
    [(_, printed)] = examples("README.md", "printed by the example")
    assert (python, shell) == ("python", "sh")
    assert ADDRESS in program
    assert ADDRESS in command
    output = await asyncio.to_thread(_run_python, program.replace(ADDRESS, sidecar.address))
    assert output == printed
    response = await asyncio.to_thread(_call, shlex.split(command.replace("\\\n", "")), sidecar.address)
    [hit] = response["hits"]
    assert hit["turn"]["content"] in printed


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    for link in LINK.finditer(document.read_text()):
        target, _, anchor = link["target"].partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        path = (document.parent / unquote(target)).resolve() if target else document
        assert path.exists(), f"{document.name} links to {link['target']}, which is not there"
        if anchor and path.suffix == ".md":
            assert anchor in _anchors(path), f"{document.name} links to {link['target']}: no such heading"


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _run_python(program: str) -> str:
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout


def _call(command: list[str], address: str) -> Any:
    """Make the call of a grpcurl command line: with grpcurl where there is one, else as it does, by reflection."""
    program, plaintext, data_flag, data, server, method = command
    assert (program, plaintext, data_flag, server) == ("grpcurl", "-plaintext", "-d", ADDRESS)
    grpcurl = shutil.which("grpcurl", path=f"{ROOT / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if grpcurl is not None:
        arguments = [grpcurl, *command[1:4], address, method]
        return json.loads(subprocess.run(arguments, check=True, stdout=subprocess.PIPE, timeout=60).stdout)
    with grpc.insecure_channel(address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        service, _, name = method.partition("/")
        descriptor = pool.FindServiceByName(service).methods_by_name[name]
        request = json_format.Parse(data, GetMessageClass(descriptor.input_type)())
        call: Any = channel.unary_unary(
            f"/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(descriptor.output_type).FromString,
        )
        return json.loads(json_format.MessageToJson(call(request, timeout=30)))
