"""Every row of the error table, as a caller sees it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo

from memsidecar.domain import errors
from memsidecar.rpc.errors import STATUS_CODES, status_code, status_of

EXAMPLES: list[errors.DomainError] = [
    errors.InvalidInput([errors.FieldViolation("content", "is required")]),
    errors.NotFound("there is no such turn"),
    errors.AlreadyExists("taken"),
    errors.EventContentDiffers("other content", metadata={"turn_id": "x"}),
    errors.Conflict("read again", metadata={"current_revision": "3"}),
    errors.FailedPrecondition("first do that"),
    errors.Unauthenticated("no token"),
    errors.PermissionDenied("not allowed"),
    errors.QuotaExceeded("too many", violations=[errors.QuotaViolation("turns", "1,000 of 1,000")]),
    errors.Overloaded("later", retry_after=timedelta(seconds=2)),
    errors.EmbeddingOverloaded(timedelta(seconds=2)),
    errors.DatabaseBusy("pool", retry_after=timedelta(seconds=2)),
    errors.DatabaseUnavailable("gone"),
    errors.KeysUnavailable("gone"),
    errors.ServerStopping(),
    errors.DeadlineExceeded("late"),
    errors.ModelMissing("install it"),
    errors.ModelCorrupt("install it again"),
    errors.ModelMismatch("other model"),
    errors.SetupError(errors.Problem("this is wrong.", "Do that.")),
]
CODES = {
    "INVALID_INPUT": grpc.StatusCode.INVALID_ARGUMENT,
    "NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "ALREADY_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "EVENT_CONTENT_DIFFERS": grpc.StatusCode.ALREADY_EXISTS,
    "REVISION_CONFLICT": grpc.StatusCode.ABORTED,
    "FAILED_PRECONDITION": grpc.StatusCode.FAILED_PRECONDITION,
    "CREDENTIAL_INVALID": grpc.StatusCode.UNAUTHENTICATED,
    "PERMISSION_DENIED": grpc.StatusCode.PERMISSION_DENIED,
    "QUOTA_EXCEEDED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "OVERLOADED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "EMBEDDING_QUEUE_FULL": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "DATABASE_POOL_EXHAUSTED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "DATABASE_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "SERVER_STOPPING": grpc.StatusCode.UNAVAILABLE,
    "KEYS_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "DEADLINE_EXCEEDED": grpc.StatusCode.DEADLINE_EXCEEDED,
    "MODEL_MISSING": grpc.StatusCode.FAILED_PRECONDITION,
    "MODEL_CORRUPT": grpc.StatusCode.FAILED_PRECONDITION,
    "MODEL_MISMATCH": grpc.StatusCode.FAILED_PRECONDITION,
    "SETUP": grpc.StatusCode.FAILED_PRECONDITION,
}


def unpacked(error: BaseException, kind: Any) -> list[Any]:
    found = []
    for detail in status_of(error).details:
        message = kind()
        if detail.Unpack(message):
            found.append(message)
    return found


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_has_its_code_and_exactly_one_reason(error: errors.DomainError) -> None:
    status = status_of(error)
    assert status.code == CODES[error.reason].value[0]
    assert status.message == error.message
    [information] = unpacked(error, ErrorInfo)
    assert (information.domain, information.reason) == ("memsidecar", error.reason)
    assert dict(information.metadata) == error.metadata


def test_every_row_of_the_table_has_an_example() -> None:
    assert {kind for kind in STATUS_CODES if not any(isinstance(error, kind) for error in EXAMPLES)} == set()


def _all_errors(kind: type[errors.DomainError] = errors.DomainError) -> set[type[errors.DomainError]]:
    return {each for direct in kind.__subclasses__() for each in {direct, *_all_errors(direct)}}


def test_every_domain_error_has_a_row() -> None:
    """An error without a code would reach the caller as INTERNAL."""
    unmapped = {
        kind
        for kind in _all_errors()
        if kind.__module__ == errors.__name__ and not any(issubclass(kind, row) for row in STATUS_CODES)
    }
    assert unmapped == set()


@pytest.mark.parametrize(
    "error", [error for error in EXAMPLES if isinstance(error, errors.Overloaded)], ids=repr
)
def test_overload_says_when_to_come_back(error: errors.Overloaded) -> None:
    [retry] = unpacked(error, RetryInfo)
    assert retry.retry_delay.ToTimedelta() == error.retry_after


def test_an_unavailable_database_says_when_to_come_back() -> None:
    assert len(unpacked(errors.DatabaseUnavailable("gone"), RetryInfo)) == 1


def test_bad_input_names_every_field() -> None:
    error = errors.InvalidInput(
        [errors.FieldViolation("a", "is bad"), errors.FieldViolation("b", "is worse")]
    )
    [request] = unpacked(error, BadRequest)
    assert [violation.field for violation in request.field_violations] == ["a", "b"]


def test_a_quota_names_the_limit() -> None:
    error = errors.QuotaExceeded("full", violations=[errors.QuotaViolation("memory", "65,536 bytes")])
    [failure] = unpacked(error, QuotaFailure)
    assert failure.violations[0].subject == "memory"
    assert unpacked(error, RetryInfo) == []


def test_a_defect_says_nothing_to_the_caller_and_everything_to_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    status = status_of(KeyError("what the user said"))
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert "user said" not in status.message
    assert "what the user said" in caplog.text


def test_a_subclass_has_the_code_of_its_base() -> None:
    class NarrowNotFound(errors.NotFound):
        """More precise."""

    assert status_code(NarrowNotFound("x")) is grpc.StatusCode.NOT_FOUND
