"""Which model this program runs, and the directory that holds it once installed.

A model root (the ``model_directory`` setting) holds one directory per graph version, so that two releases of
this program can share a volume::

    <model root>/all-MiniLM-L6-v2-graph4/
        manifest.json      sha256 and size of every other file
        model.fp32.onnx    the graph in float32
        model.int8.onnx    the same weights, matrix products in 8 bit integers
        tokenizer.json     as published
        words.bin          the word embeddings, which both graphs read: float32, one row per word piece

The manifest tells a damaged file from the one that was installed. It cannot tell who made the directory:
whoever may write to the model root is trusted.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from memsidecar.domain.embedding import MAX_WORD_PIECES, ModelIdentity
from memsidecar.domain.errors import ModelCorrupt, ModelMissing

if TYPE_CHECKING:
    from pathlib import Path

MODEL_NAME: Final = "all-MiniLM-L6-v2"

GRAPH_VERSION: Final = 4
"""Raise it whenever ``onnx_export`` or ``quantization`` changes the numbers a graph gives."""

MANIFEST: Final = "manifest.json"
WORD_EMBEDDINGS: Final = "words.bin"
_REMEDY: Final = "Run `memsidecar model install`."


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A published file, pinned by its content."""

    name: str
    sha256: str
    size: int
    """Bytes."""


WEIGHTS: Final = SourceFile(
    name="model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    size=90_868_376,
)
TOKENIZER: Final = SourceFile(
    name="tokenizer.json",
    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    size=466_247,
)
SOURCE_FILES: Final = (WEIGHTS, TOKENIZER)


class Precision(StrEnum):
    """The arithmetic of the matrix products in the graph."""

    FP32 = "fp32"
    INT8 = "int8"


def graph_file(precision: Precision) -> str:
    """Name of the graph's file inside an installed model's directory."""
    return f"model.{precision}.onnx"


def identity_of(precision: Precision) -> ModelIdentity:
    """Identify the vectors a precision of this model gives.

    The digest covers what decides the numbers: published weights and tokenizer, graph version, precision and
    the length at which texts are cut. It leaves out the exported file's bytes, which another release of the
    ``onnx`` package may lay out differently without changing a single vector.
    """
    parts = (
        MODEL_NAME,
        WEIGHTS.sha256,
        TOKENIZER.sha256,
        f"graph {GRAPH_VERSION}",
        precision,
        str(MAX_WORD_PIECES),
    )
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return ModelIdentity(name=MODEL_NAME, precision=precision, sha256=digest)


def installed_directory(root: Path) -> Path:
    """Directory of this program's model below a model root, whether it exists or not."""
    return root / f"{MODEL_NAME}-graph{GRAPH_VERSION}"


def tokenizer_file(root: Path) -> Path:
    """Tokenizer of this program's model below a model root."""
    return installed_directory(root) / TOKENIZER.name


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """Files of one precision, read from a directory whose content was checked."""

    identity: ModelIdentity
    graph: Path
    tokenizer: Path


def write_manifest(directory: Path) -> None:
    """Record the sha256 and size of every file in a directory."""
    files = {
        path.name: {"sha256": sha256_of(path), "size": path.stat().st_size}
        for path in sorted(directory.iterdir())
        if path.name != MANIFEST
    }
    manifest = {"model": MODEL_NAME, "graph_version": GRAPH_VERSION, "files": files}
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def open_installed(root: Path, precision: Precision) -> InstalledModel:
    """Check the installed files one precision needs and say where they are.

    Reads 60 to 90 MB to compare digests (roughly 0.1 s from the page cache).

    Raises:
        ModelMissing: Nothing is installed under the root for this version of the program.
        ModelCorrupt: A file is absent or differs from what was installed; the message names it.
    """
    directory = installed_directory(root)
    if not directory.is_dir():
        raise ModelMissing(f"the embedding model is not installed in {root}. {_REMEDY}")
    recorded = _recorded_digests(directory / MANIFEST)
    graph, tokenizer = directory / graph_file(precision), directory / TOKENIZER.name
    for path in (tokenizer, graph, directory / WORD_EMBEDDINGS):
        if path.name not in recorded or not path.is_file():
            raise ModelCorrupt(f"{path} is missing from the installed model. {_REMEDY}")
        if sha256_of(path) != recorded[path.name]:
            raise ModelCorrupt(f"{path} is not the file that was installed: its sha256 differs. {_REMEDY}")
    if recorded[tokenizer.name] != TOKENIZER.sha256:
        raise ModelCorrupt(f"{tokenizer} is not the tokenizer of {MODEL_NAME}. {_REMEDY}")
    return InstalledModel(identity=identity_of(precision), graph=graph, tokenizer=tokenizer)


def _recorded_digests(manifest: Path) -> dict[str, str]:
    try:
        content = json.loads(manifest.read_text())
        if content["model"] != MODEL_NAME or content["graph_version"] != GRAPH_VERSION:
            raise ModelCorrupt(f"{manifest} describes another model than {MODEL_NAME}. {_REMEDY}")
        return {name: str(entry["sha256"]) for name, entry in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelCorrupt(f"{manifest} cannot be read as the model's manifest. {_REMEDY}") from error
