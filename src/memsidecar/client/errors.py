"""What a call can fail with, as exceptions of its own for each thing a caller may want to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from google.rpc.status_pb2 import Status


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One bad field of a request."""

    field: str
    """Path in the request, for example ``turns[2].content``."""
    description: str
    """What is wrong and what would be right."""


class MemoryServiceError(Exception):
    """Base of everything a call can fail with.

    Attributes:
        message: What went wrong and what to change, as the server says it.
        code: The gRPC status code.
        reason: Stable name of the cause, for example ``EVENT_CONTENT_DIFFERS``; empty when the answer did not
            come from memsidecar.
        metadata: More about the cause, for example ``current_revision``.
        violations: Every bad field; only where fields were bad.
        retry_after: When the same call can succeed; None when the server does not say.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: tuple[FieldViolation, ...] = (),
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.violations = violations
        self.retry_after = retry_after


class InvalidRequestError(MemoryServiceError):
    """Fields of the request are bad; ``violations`` lists all of them. Nothing was stored."""


class NotFoundError(MemoryServiceError):
    """No such thing in the credential's tenant."""


class AlreadyExistsError(MemoryServiceError):
    """It is there already, with other content."""


class ConflictError(MemoryServiceError):
    """Somebody else changed it in between: read again, then repeat."""


class FailedPreconditionError(MemoryServiceError):
    """Something else has to be done first."""


class UnauthenticatedError(MemoryServiceError):
    """No token, or one that is not valid."""


class PermissionDeniedError(MemoryServiceError):
    """The token is valid but does not allow this."""


class ExhaustedError(MemoryServiceError):
    """A quota is used up, or, when ``retry_after`` is set, the server has too much to do at the moment."""


class UnavailableError(MemoryServiceError):
    """The server, or the database behind it, cannot be reached, or is shutting down."""


class DeadlineExceededError(MemoryServiceError):
    """The call did not finish in time. Appended turns may have been stored; repeating the call is safe."""


class UnimplementedError(MemoryServiceError):
    """The server does not know this call: it is another program or another version."""


_KINDS: dict[grpc.StatusCode, type[MemoryServiceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExhaustedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    # Nobody here cancels calls: a server that shuts down does it to those it has not looked at yet.
    grpc.StatusCode.CANCELLED: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.UNIMPLEMENTED: UnimplementedError,
}


def error_of(error: grpc.RpcError | grpc.aio.AioRpcError) -> MemoryServiceError:
    """Turn a failed call into its exception, details included."""
    code = error.code()
    status = _status_of(error)
    info, violations, retry_after = ErrorInfo(), BadRequest(), None
    for detail in status.details if status is not None else ():
        retry_info = RetryInfo()
        if detail.Is(ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(BadRequest.DESCRIPTOR):
            detail.Unpack(violations)
        elif detail.Unpack(retry_info):
            retry_after = retry_info.retry_delay.ToTimedelta()
    return _KINDS.get(code, MemoryServiceError)(
        error.details() or code.name,
        code=code,
        reason=info.reason,
        metadata=info.metadata,
        violations=tuple(
            FieldViolation(violation.field, violation.description)
            for violation in violations.field_violations
        ),
        retry_after=retry_after,
    )


def _status_of(error: grpc.RpcError) -> Status | None:
    if error.trailing_metadata() is None:
        return None
    try:
        return rpc_status.from_call(error)
    except ValueError:
        return None  # a proxy in between wrote another status over the server's own
