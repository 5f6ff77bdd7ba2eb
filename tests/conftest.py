"""What every test may ask for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import platformdirs
import pytest

from memsidecar.config import Config
from memsidecar.embedding.install import default_sources, ignore_progress, install_model, is_installed
from memsidecar.embedding.model_files import SOURCE_FILES, sha256_of
from memsidecar.embedding.model_sources import fetch_first_available


@pytest.fixture(scope="session")
def published_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published weights and tokenizer of the model, fetched once per machine."""
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
def model_directory(request: pytest.FixtureRequest) -> Path:
    """The model root of this machine's configuration, with the model installed."""
    root = Config.from_environment().model_directory
    if not is_installed(root):
        install_model(root, prepared=request.getfixturevalue("published_directory"))
    return root
