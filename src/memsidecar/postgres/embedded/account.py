"""The operating-system user that Postgres runs as.

Started by an ordinary user, Postgres is simply that user. Started by root it has to be someone else, because
Postgres refuses root. It then runs as a user number of its own that no account has: ``nobody`` and other
shared accounts run other programs too, which could then read the data files and enter the socket directory,
and adding an account would change the machine.
"""

from __future__ import annotations

import os
import pwd
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memsidecar.domain.errors import Problem, SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST_USER_ID = 61184
LAST_USER_ID = 65519
"""The numbers systemd sets aside for users that exist only while a service runs (systemd's UIDS-GIDS
document), and the highest such range that fits the 65,536 numbers a container with mapped users usually
has."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user to run a child process as, when this process is root."""

    user_id: int
    group_id: int

    def own(self, path: Path) -> None:
        """Give this account the file or directory itself, not what is below it."""
        os.chown(path, self.user_id, self.group_id, follow_symlinks=False)

    def own_tree(self, path: Path) -> None:
        """Give this account the directory and everything below it."""
        for entry in (path, *path.rglob("*")):
            self.own(entry)

    def may_pass(self, folder: Path) -> bool:
        """Whether the mode bits let this account go through the directory ``folder``."""
        status = folder.stat()
        if status.st_uid == self.user_id:
            return bool(status.st_mode & 0o100)
        if status.st_gid == self.group_id:
            return bool(status.st_mode & 0o010)
        return bool(status.st_mode & 0o001)


def service_account(directory: Path, cluster: Path) -> Account | None:
    """Who runs Postgres for the data directory ``directory``; None is this process's own user.

    Data files that exist keep the owner they have, so that the answer never changes for them.
    """
    if os.geteuid() != 0:
        return None
    if cluster.exists() and (status := cluster.stat()).st_uid != 0:
        return Account(status.st_uid, status.st_gid)
    count = LAST_USER_ID - FIRST_USER_ID + 1
    preferred = zlib.crc32(os.fsencode(directory)) % count
    for step in range(count):
        user_id = FIRST_USER_ID + (preferred + step) % count
        if not _has_name(user_id):
            return Account(user_id, user_id)
    raise SetupError(
        Problem(
            "Postgres refuses to run as root, and every user number it could take instead"
            f" ({FIRST_USER_ID} to {LAST_USER_ID}) belongs to an account.",
            "Run memsidecar as an ordinary user.",
        )
    )


def initialising_account(account: Account | None) -> Account | None:
    """Who may run ``initdb``, which insists on a user that has a name; its files then go to ``account``.

    Raises:
        SetupError: this process's own user has no name, or there is no account but root.
    """
    if account is None:
        if not _has_name(os.geteuid()):
            raise SetupError(
                Problem(
                    f"This process runs as user {os.geteuid()}, who has no account, and initdb refuses that.",
                    "Run it as a user that /etc/passwd names, or configure a DATABASE_URL.",
                )
            )
        return None
    if _has_name(account.user_id):
        return account
    others = {
        entry.pw_name: Account(entry.pw_uid, entry.pw_gid) for entry in pwd.getpwall() if entry.pw_uid != 0
    }
    if not others:
        raise SetupError(
            Problem(
                "This machine has no account but root, and Postgres refuses to run as root.",
                "Add one (useradd --system memsidecar) and run memsidecar as that user.",
            )
        )
    return others.get("nobody") or next(iter(others.values()))


def closed_parent(account: Account, path: Path) -> Path | None:
    """The outermost directory on the way to ``path`` that ``account`` may not pass through."""
    return next(
        (folder for folder in _parents_from_root(path) if folder.exists() and not account.may_pass(folder)),
        None,
    )


def _parents_from_root(path: Path) -> Iterator[Path]:
    return reversed(path.resolve().parents)


def _has_name(user_id: int) -> bool:
    try:
        pwd.getpwuid(user_id)
    except KeyError:
        return False
    return True
