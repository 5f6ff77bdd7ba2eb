"""Turns whatever a handler raises into a status, for every RPC alike."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from memsidecar.domain.errors import FieldViolation, InvalidInput
from memsidecar.rpc.errors import status_of
from memsidecar.rpc.wrapped_handler import wrapped_handler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from memsidecar.rpc.context import ServicerContext


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Nothing leaves the server but a well-formed status."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call."""
        return await wrapped_handler(
            continuation,
            handler_call_details,
            answering=_answering,
            streaming=_streaming,
            reading=_reading,
        )


class _UnreadableMessage:
    """Stands in for a message whose bytes are not one, until somebody can be told."""


def _reading(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(message: bytes) -> Any:
        try:
            return deserialize(message)
        except DecodeError:
            return _UnreadableMessage()

    return read


async def _readable(messages: AsyncIterable[Any]) -> AsyncIterator[Any]:
    async for message in messages:
        _require_readable(message)
        yield message


def _require_readable(message: Any) -> None:
    if isinstance(message, _UnreadableMessage):
        raise InvalidInput(
            [FieldViolation("request", "is not a message of this call: its bytes make no sense")]
        )


def _answering(behaviour: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def answer(request: Any, context: ServicerContext) -> Any:
        try:
            if isinstance(request, AsyncIterable):
                request = _readable(request)
            _require_readable(request)
            return await behaviour(request, context)
        except Exception as error:
            await _abort(context, error)

    return answer


def _streaming(behaviour: Callable[..., Any]) -> Callable[..., AsyncIterator[Any]]:
    async def stream(request: Any, context: ServicerContext) -> AsyncIterator[Any]:
        try:
            _require_readable(request)
            async for message in behaviour(request, context):
                yield message
        except Exception as error:
            await _abort(context, error)

    return stream


async def _abort(context: ServicerContext, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    status = rpc_status.to_status(status_of(error))
    # Aborting replaces the trailing metadata that were set before.
    await context.abort_with_status(
        status._replace(trailing_metadata=(*status.trailing_metadata, *(context.trailing_metadata() or ())))
    )
