"""Reading the details of a failed call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message


def details(error: grpc.RpcError, kind: type[Message]) -> list[Any]:
    """Give the details of one kind that a failed call carries."""
    status = rpc_status.from_call(error)
    found = []
    for detail in status.details if status else ():
        message = kind()
        if detail.Unpack(message):
            found.append(message)
    return found


def reason(error: grpc.RpcError) -> str:
    """Give the reason of a failed call, which carries exactly one."""
    [information] = details(error, ErrorInfo)
    assert information.domain == "memsidecar"
    return str(information.reason)


def bad_fields(error: grpc.RpcError) -> list[str]:
    """Give the names of the bad fields, in order."""
    return [
        violation.field for request in details(error, BadRequest) for violation in request.field_violations
    ]
