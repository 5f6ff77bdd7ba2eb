"""The one table that turns domain errors into gRPC statuses.

Every status carries exactly one ``google.rpc.ErrorInfo`` (domain ``memsidecar``), and ``BadRequest``, ``RetryInfo`` or
``QuotaFailure`` where they fit. Whatever is not in the table is a defect: INTERNAL with a text that says nothing, and a
full log line.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status

from memsidecar.domain import errors
from memsidecar.domain.observation import REQUEST_ID

if TYPE_CHECKING:
    from datetime import timedelta

    from google.protobuf.message import Message

_LOGGER = logging.getLogger(__name__)

ERROR_DOMAIN = "memsidecar"

STATUS_CODES: dict[type[errors.DomainError], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DatabaseUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.ServerStopping: grpc.StatusCode.UNAVAILABLE,
    errors.KeysUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.ModelMissing: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ModelCorrupt: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ModelMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SetupError: grpc.StatusCode.FAILED_PRECONDITION,
}
"""Subclasses take the code of their nearest listed base."""

_INTERNAL_TEXT = (
    "something went wrong inside memsidecar: the server's log has the details under request id {}"
)
_UNAVAILABLE_RETRY_SECONDS = 1


def status_code(error: errors.DomainError) -> grpc.StatusCode:
    """Give the gRPC code of a domain error."""
    for kind in type(error).__mro__:
        if kind in STATUS_CODES:
            return STATUS_CODES[kind]
    return grpc.StatusCode.INTERNAL


def status_of(error: BaseException) -> Status:
    """Build the full status of an error, details included; logs what is not a domain error."""
    if isinstance(error, errors.DomainError) and status_code(error) is not grpc.StatusCode.INTERNAL:
        return _status(status_code(error), error.message, error.reason, error.metadata, _details(error))
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return status_of(errors.DeadlineExceeded("the call did not finish before its deadline"))
    _LOGGER.error("unexpected error", exc_info=error)
    return _status(grpc.StatusCode.INTERNAL, _INTERNAL_TEXT.format(REQUEST_ID.get()), "INTERNAL", {}, [])


def _details(error: errors.DomainError) -> list[Message]:
    details: list[Message] = []
    if isinstance(error, errors.InvalidInput):
        details.append(
            BadRequest(
                field_violations=[
                    BadRequest.FieldViolation(field=violation.field, description=violation.description)
                    for violation in error.violations
                ]
            )
        )
    if isinstance(error, errors.QuotaExceeded):
        details.append(
            QuotaFailure(
                violations=[
                    QuotaFailure.Violation(subject=violation.subject, description=violation.description)
                    for violation in error.violations
                ]
            )
        )
        if error.retry_after is not None:
            details.append(_retry_info(error.retry_after))
    if isinstance(error, errors.Overloaded):
        details.append(_retry_info(error.retry_after))
    if status_code(error) is grpc.StatusCode.UNAVAILABLE:
        details.append(RetryInfo(retry_delay=Duration(seconds=_UNAVAILABLE_RETRY_SECONDS)))
    return details


def _retry_info(delay: timedelta) -> RetryInfo:
    duration = Duration()
    duration.FromTimedelta(delay)
    return RetryInfo(retry_delay=duration)


def _status(
    code: grpc.StatusCode, message: str, reason: str, metadata: dict[str, str], details: list[Message]
) -> Status:
    packed = []
    for detail in [ErrorInfo(reason=reason, domain=ERROR_DOMAIN, metadata=metadata), *details]:
        wrapped = Any()
        wrapped.Pack(detail)
        packed.append(wrapped)
    return Status(code=code.value[0], message=message, details=packed)
