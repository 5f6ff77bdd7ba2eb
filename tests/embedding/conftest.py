"""The real model, loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memsidecar.embedding.engine import OnnxEmbedder
from memsidecar.embedding.model_files import InstalledModel, Precision, open_installed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(scope="session")
def installed_fp32(model_directory: Path) -> InstalledModel:
    return open_installed(model_directory, Precision.FP32)


@pytest.fixture
async def embedder(installed_fp32: InstalledModel) -> AsyncIterator[OnnxEmbedder]:
    async with OnnxEmbedder(installed_fp32, threads=1) as embedder:
        yield embedder
