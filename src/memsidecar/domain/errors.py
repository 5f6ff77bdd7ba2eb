"""Every way a use case can fail, free of transport and storage.

Each error carries a stable ``reason`` (upper snake case, the ``ErrorInfo.reason`` on the wire) and a message that tells
the caller what to change. One table in ``rpc`` turns them into gRPC codes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta


class DomainError(Exception):
    """Base of all errors a caller may see."""

    reason: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str, *, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: dict[str, str] = dict(metadata or {})


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One bad field of a request."""

    field: str
    """Path in the request, for example ``turns[2].content``."""
    description: str
    """What is wrong and what would be right."""


class InvalidInput(DomainError):
    """The request can never succeed as it is; all bad fields are listed."""

    reason = "INVALID_INPUT"

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        self.violations = tuple(violations)
        super().__init__(
            "; ".join(f"{violation.field}: {violation.description}" for violation in self.violations)
        )


class NotFound(DomainError):
    """No such thing in the caller's tenant; another tenant's thing reads the same."""

    reason = "NOT_FOUND"


class AlreadyExists(DomainError):
    """The thing exists, with other content."""

    reason = "ALREADY_EXISTS"


class EventContentDiffers(AlreadyExists):
    """An event that is stored came again with other content."""

    reason = "EVENT_CONTENT_DIFFERS"


class RequestContentDiffers(AlreadyExists):
    """A request id that is known came again with another request."""

    reason = "REQUEST_CONTENT_DIFFERS"

    def __init__(self) -> None:
        super().__init__("this request_id was used before for another request: use a new one")


class Conflict(DomainError):
    """Somebody changed it in between: read again, then repeat (ABORTED on the wire)."""

    reason = "REVISION_CONFLICT"


class FailedPrecondition(DomainError):
    """The state of the system forbids it until something else is done first."""

    reason = "FAILED_PRECONDITION"


class Unauthenticated(DomainError):
    """No credential, or one that is not valid."""

    reason = "CREDENTIAL_INVALID"


class PermissionDenied(DomainError):
    """The credential is valid but does not allow this."""

    reason = "PERMISSION_DENIED"


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """One limit that was reached."""

    subject: str
    description: str


class QuotaExceeded(DomainError):
    """A limit of the tenant or of the product was reached."""

    reason = "QUOTA_EXCEEDED"

    def __init__(
        self, message: str, *, violations: Sequence[QuotaViolation], retry_after: timedelta | None = None
    ) -> None:
        super().__init__(message)
        self.violations = tuple(violations)
        self.retry_after = retry_after


class MemoryTooLarge(QuotaExceeded):
    """A user memory would pass the hard limit."""

    reason = "MEMORY_TOO_LARGE"

    def __init__(self, *, size: int, limit: int, current_size: int | None) -> None:
        super().__init__(
            f"the memory would have {size:,} bytes, and at most {limit:,} are kept: write it shorter, or let the tenant"
            " move the oldest paragraphs to the archive (memory_overflow)",
            violations=[QuotaViolation("user_memory.size_bytes", f"{size} bytes of at most {limit}")],
        )
        self.metadata = {"size_bytes": str(size), "limit_bytes": str(limit)}
        if current_size is not None:
            self.metadata["current_size_bytes"] = str(current_size)


class Overloaded(DomainError):
    """Too much work is waiting; the same call will succeed later."""

    reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after: timedelta) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EmbeddingOverloaded(Overloaded):
    """The embedding queue is full."""

    reason = "EMBEDDING_QUEUE_FULL"

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__(
            "the embedding queue is full: repeat the call after the given delay, or add replicas",
            retry_after=retry_after,
        )


class DatabaseBusy(Overloaded):
    """Every database connection is in use and none came free in time."""

    reason = "DATABASE_POOL_EXHAUSTED"


class ServerStopping(DomainError):
    """The server is being stopped and takes no new calls."""

    reason = "SERVER_STOPPING"

    def __init__(self) -> None:
        super().__init__("this server is being stopped: repeat the call, another one will answer")


class DatabaseUnavailable(DomainError):
    """The database cannot be reached or went away in the middle."""

    reason = "DATABASE_UNAVAILABLE"


class KeysUnavailable(DomainError):
    """The keys that credentials are checked with cannot be read now."""

    reason = "KEYS_UNAVAILABLE"


class DeadlineExceeded(DomainError):
    """The caller's deadline passed before the work was done."""

    reason = "DEADLINE_EXCEEDED"


class ModelMissing(DomainError):
    """The embedding model is not installed."""

    reason = "MODEL_MISSING"


class ModelCorrupt(DomainError):
    """A file of the embedding model is not the one that was installed."""

    reason = "MODEL_CORRUPT"


class ModelMismatch(DomainError):
    """Stored vectors were made by another model than the one this server runs."""

    reason = "MODEL_MISMATCH"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps a deployment from being right, and what to do about it."""

    what: str
    remedy: str
    details: Mapping[str, str] = field(default_factory=dict)


class SetupError(DomainError):
    """The process cannot start: configuration, database or files are not as they must be."""

    reason = "SETUP"

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.what} {problem.remedy}")
        self.problem = problem
