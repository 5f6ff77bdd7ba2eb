"""Advisory locks that a transaction takes as it begins and holds until it ends."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID


@dataclass(frozen=True, slots=True, order=True)
class AdvisoryLock:
    """A lock by number. Shared holders do not wait for each other; an exclusive one waits for all, and all for it."""

    key: int
    """Signed 64-bit number."""
    shared: bool = False


def turns_lock(tenant_id: UUID, agent_id: UUID, user_id: str, *, shared: bool) -> AdvisoryLock:
    """Lock the turns of a user: shared to say something, exclusive to edit or delete.

    An edit and the original it changes may arrive at the same moment in different processes. With the lock, whichever
    comes second sees the other.
    """
    return AdvisoryLock(_key("turns", tenant_id, agent_id, user_id), shared)


def user_memory_lock(tenant_id: UUID, agent_id: UUID, user_id: str) -> AdvisoryLock:
    """Lock the memory of a user: writers come one after the other."""
    return AdvisoryLock(_key("user_memory", tenant_id, agent_id, user_id))


def erasures_lock(tenant_id: UUID) -> AdvisoryLock:
    """Lock the list of a tenant's erasures: requests come one after the other."""
    return AdvisoryLock(_key("erasures", tenant_id))


def lock_statements(locks: Iterable[AdvisoryLock]) -> str:
    """Write the statements that take locks, each once, in an order that is the same everywhere: nobody deadlocks."""
    strongest: dict[int, AdvisoryLock] = {}
    for lock in locks:
        strongest[lock.key] = AdvisoryLock(lock.key, lock.shared and strongest.get(lock.key, lock).shared)
    return "".join(
        f" SELECT pg_advisory_xact_lock{'_shared' if lock.shared else ''}({lock.key});"
        for lock in sorted(strongest.values())
    )


def _key(*parts: object) -> int:
    """Hash to 64 bits; users that happen to share a number wait for each other now and then, nothing more."""
    text = "\x00".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
