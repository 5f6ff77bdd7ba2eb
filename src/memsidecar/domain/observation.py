"""The port through which every layer says what happens and how long it takes, to whoever measures it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from memsidecar.domain.embedding import Lane

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the call being answered; empty outside of calls. It belongs to the task, so it needs no passing on."""


class Stage(Enum):
    """Where the time of a call goes."""

    QUEUE = "queue"
    """A text waits for a free thread of the embedder."""
    TOKENISE = "tokenise"
    """A group of texts is cut into word pieces."""
    EMBED = "embed"
    """The model runs on a group of texts."""
    POOL = "pool"
    """A use case waits for a database connection."""
    DATABASE = "database"
    """A transaction, from BEGIN to COMMIT, with what is done between its statements."""
    RANK = "rank"
    """What was found is put in order."""


@dataclass(frozen=True, slots=True)
class PoolUse:
    """A pool of database connections right now."""

    in_use: int
    idle: int
    limit: int
    waiting: int
    """Callers waiting for a free one."""


class ObservedCall(Protocol):
    """A call under way."""

    code: str
    """Name of the gRPC status it ends with, ``OK`` unless set before the end."""


class Observer(Protocol):
    """Is told what happens. Never told what was said, by whom, or for which tenant."""

    @property
    def wants_statements(self) -> bool:
        """Whether ``statement`` should be told of every statement."""
        ...

    def call(self, method: str, metadata: Mapping[str, str]) -> AbstractContextManager[ObservedCall]:
        """Observe a call for as long as the block runs.

        Args:
            method: Name of the RPC, for example ``AppendTurn``.
            metadata: What the caller sent beside the request; read for the trace it belongs to and nothing else.
        """
        ...

    def stage(self, stage: Stage) -> AbstractContextManager[None]:
        """Time a stage of the call, or the background work, that the current task is about."""
        ...

    def spent(self, stage: Stage, lane: Lane, seconds: float) -> None:
        """Record time that was spent in a thread for several calls together. Safe to call from any thread."""
        ...

    def statement(self, name: str, seconds: float) -> None:
        """Record a statement that just ended, by the name it has in its ``.sql`` file."""
        ...

    def searched(self, search: str, strategy: str) -> None:
        """Count a search by the strategy that answered it.

        Args:
            search: ``recall`` or ``hybrid_search``.
            strategy: One of a handful of names, for example ``exact``.
        """
        ...

    def ingested(self, outcome: str) -> None:
        """Count a document that a worker took in (``stored`` or ``unchanged``) or gave up (``failed``)."""
        ...


class _Call:
    __slots__ = ("code",)

    def __init__(self) -> None:
        self.code = "OK"


class Unobserved:
    """Nobody measures."""

    wants_statements = False

    def call(self, method: str, metadata: Mapping[str, str]) -> AbstractContextManager[ObservedCall]:
        """Do nothing."""
        return nullcontext(_Call())

    def stage(self, stage: Stage) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def spent(self, stage: Stage, lane: Lane, seconds: float) -> None:
        """Do nothing."""

    def statement(self, name: str, seconds: float) -> None:
        """Do nothing."""

    def searched(self, search: str, strategy: str) -> None:
        """Do nothing."""

    def ingested(self, outcome: str) -> None:
        """Do nothing."""


UNOBSERVED = Unobserved()
