"""Turns whatever a handler raises into a status, for every RPC alike."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import grpc
from grpc_status import rpc_status

from memsidecar.rpc.errors import status_of

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
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith("/memsidecar."):
            return handler
        if handler.unary_unary or handler.stream_unary:
            behaviour = handler.unary_unary or handler.stream_unary
            make = (
                grpc.unary_unary_rpc_method_handler
                if handler.unary_unary
                else grpc.stream_unary_rpc_method_handler
            )
            return make(_answering(behaviour), handler.request_deserializer, handler.response_serializer)
        return grpc.unary_stream_rpc_method_handler(
            _streaming(handler.unary_stream), handler.request_deserializer, handler.response_serializer
        )


def _answering(behaviour: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def answer(request: Any, context: ServicerContext) -> Any:
        if not inspect.iscoroutinefunction(behaviour):
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server does not implement the call")
        try:
            return await behaviour(request, context)
        except Exception as error:
            await _abort(context, error)

    return answer


def _streaming(behaviour: Callable[..., Any]) -> Callable[..., AsyncIterator[Any]]:
    async def stream(request: Any, context: ServicerContext) -> AsyncIterator[Any]:
        if not inspect.isasyncgenfunction(behaviour):
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server does not implement the call")
        try:
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
