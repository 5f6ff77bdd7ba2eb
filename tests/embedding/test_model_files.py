from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from memsidecar.domain.errors import ModelCorrupt, ModelMissing
from memsidecar.embedding.model_files import Precision, identity_of, installed_directory, open_installed
from memsidecar.embedding.session import ModelSession

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(model_directory: Path, tmp_path: Path) -> Path:
    """A copy of the installed model that a test may damage."""
    shutil.copytree(installed_directory(model_directory), installed_directory(tmp_path))
    return tmp_path


def test_an_installed_model_opens_with_its_identity(model_directory: Path) -> None:
    for precision in Precision:
        model = open_installed(model_directory, precision)
        assert model.identity == identity_of(precision)
        assert model.identity.name == "all-MiniLM-L6-v2"
        assert model.identity.dimensions == 384


def test_each_precision_is_a_model_of_its_own() -> None:
    assert identity_of(Precision.FP32).sha256 != identity_of(Precision.INT8).sha256


def test_an_empty_root_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="memsidecar model install") as error:
        open_installed(tmp_path, Precision.FP32)
    assert str(tmp_path) in error.value.message


@pytest.mark.parametrize("name", ["model.fp32.onnx", "tokenizer.json", "words.bin"])
def test_a_flipped_bit_is_refused_by_name(root: Path, name: str) -> None:
    file = installed_directory(root) / name
    with file.open("r+b") as content:
        content.seek(file.stat().st_size // 2)
        byte = content.read(1)[0]
        content.seek(-1, 1)
        content.write(bytes([byte ^ 1]))
    with pytest.raises(ModelCorrupt, match=name):
        open_installed(root, Precision.FP32)


@pytest.mark.parametrize("name", ["model.int8.onnx", "tokenizer.json", "manifest.json"])
def test_an_absent_file_is_refused_by_name(root: Path, name: str) -> None:
    (installed_directory(root) / name).unlink()
    with pytest.raises(ModelCorrupt, match=name):
        open_installed(root, Precision.INT8)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": "another", "graph_version": 1, "files": {}}'])
def test_an_unreadable_manifest_is_refused_by_name(root: Path, content: str) -> None:
    (installed_directory(root) / "manifest.json").write_text(content)
    with pytest.raises(ModelCorrupt, match=r"manifest\.json"):
        open_installed(root, Precision.FP32)


def test_another_tokenizer_is_refused_even_when_the_manifest_agrees(root: Path) -> None:
    directory = installed_directory(root)
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "tokenizer.json").write_text("{}")
    manifest["files"]["tokenizer.json"]["sha256"] = (
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelCorrupt, match="not the tokenizer of"):
        open_installed(root, Precision.FP32)


def test_a_file_that_is_no_graph_is_refused_by_name(root: Path) -> None:
    model = open_installed(root, Precision.INT8)
    model.graph.write_bytes(b"not a graph")
    with pytest.raises(ModelCorrupt, match=r"model\.int8\.onnx"):
        ModelSession(model)
