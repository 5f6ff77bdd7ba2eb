"""The real model, loaded, and the published files it is made from."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest

from memsidecar.embedding.engine import OnnxEmbedder
from memsidecar.embedding.install import default_sources, ignore_progress
from memsidecar.embedding.model_files import (
    SOURCE_FILES,
    InstalledModel,
    Precision,
    open_installed,
    sha256_of,
)
from memsidecar.embedding.model_sources import fetch_first_available

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(scope="session")
def published_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published weights and tokenizer, fetched once per machine."""
    cached = Path(platformdirs.user_cache_path("memsidecar-tests")) / "published"
    if all(
        (cached / file.name).is_file() and sha256_of(cached / file.name) == file.sha256
        for file in SOURCE_FILES
    ):
        return cached
    cached.mkdir(parents=True, exist_ok=True)
    fetched = tmp_path_factory.mktemp("published")
    fetch_first_available(default_sources(), fetched, ignore_progress)
    for file in SOURCE_FILES:
        arriving = cached / f".{file.name}.{os.getpid()}"
        shutil.copyfile(fetched / file.name, arriving)
        arriving.replace(cached / file.name)
    return cached


@pytest.fixture(scope="session")
def installed_fp32(model_directory: Path) -> InstalledModel:
    return open_installed(model_directory, Precision.FP32)


@pytest.fixture
async def embedder(installed_fp32: InstalledModel) -> AsyncIterator[OnnxEmbedder]:
    async with OnnxEmbedder(installed_fp32, threads=1) as embedder:
        yield embedder
