"""Installation shows a whole model or none."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from memsidecar.domain.errors import ModelCorrupt, ModelMissing, SetupError
from memsidecar.embedding.install import default_sources, install_model, is_installed
from memsidecar.embedding.model_files import MANIFEST, Precision, installed_directory, open_installed
from memsidecar.embedding.model_sources import InstallProgress, PreparedDirectory

if TYPE_CHECKING:
    from pathlib import Path

INSTALL = """
import sys
from pathlib import Path
from memsidecar.embedding.install import install_model


def report(progress):
    print(progress.step, flush=True)


print(install_model(Path(sys.argv[1]), prepared=Path(sys.argv[2]), report=report))
"""


def start_installing(root: Path, published: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", INSTALL, str(root), str(published)], stdout=subprocess.PIPE, text=True
    )


def visible(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.name != ".install.lock")


def test_installing_from_a_directory_reproduces_the_model_and_happens_once(
    published_directory: Path, model_directory: Path, tmp_path: Path
) -> None:
    reports: list[InstallProgress] = []
    assert install_model(tmp_path, prepared=published_directory, report=reports.append)
    assert reports
    manifests = [(installed_directory(root) / MANIFEST).read_text() for root in (tmp_path, model_directory)]
    assert manifests[0] == manifests[1]
    assert not install_model(tmp_path, prepared=tmp_path / "not looked at")
    assert visible(tmp_path) == [installed_directory(tmp_path).name]


def test_a_damaged_model_is_replaced(published_directory: Path, tmp_path: Path) -> None:
    directory = installed_directory(tmp_path)
    directory.mkdir(parents=True)
    (directory / MANIFEST).write_text("{}")
    with pytest.raises(ModelCorrupt):
        open_installed(tmp_path, Precision.FP32)
    assert install_model(tmp_path, prepared=published_directory)
    assert is_installed(tmp_path)
    assert visible(tmp_path) == [directory.name]


def test_an_installation_killed_halfway_leaves_nothing_that_opens(
    published_directory: Path, tmp_path: Path
) -> None:
    with start_installing(tmp_path, published_directory) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("writing the graphs"):
                process.send_signal(signal.SIGKILL)
                break
    with pytest.raises(ModelMissing):
        open_installed(tmp_path, Precision.FP32)
    assert [name for name in visible(tmp_path) if name.startswith(".staging-")]

    assert install_model(tmp_path, prepared=published_directory)
    assert visible(tmp_path) == [installed_directory(tmp_path).name]


def test_a_failed_installation_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SetupError):
        install_model(tmp_path / "root", prepared=tmp_path / "empty")
    assert visible(tmp_path / "root") == []


def test_two_installers_at_once_do_the_work_once(published_directory: Path, tmp_path: Path) -> None:
    processes = [start_installing(tmp_path, published_directory) for _ in range(2)]
    outputs = [process.communicate()[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(output[-1] for output in outputs) == ["False", "True"]
    assert is_installed(tmp_path)


def test_a_root_that_cannot_be_written_says_so(published_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SetupError, match="cannot be written") as error:
        install_model(tmp_path / "file" / "root", prepared=published_directory)
    assert "model directory" in error.value.problem.remedy


def test_a_named_directory_is_the_only_source(tmp_path: Path) -> None:
    assert [type(source) for source in default_sources(tmp_path)] == [PreparedDirectory]


def test_the_installed_model_can_be_read_by_other_users(model_directory: Path) -> None:
    for path in (installed_directory(model_directory), *installed_directory(model_directory).iterdir()):
        assert path.stat().st_mode & 0o044 == 0o044
