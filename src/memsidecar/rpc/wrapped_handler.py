"""Putting something around the handler of a call, whatever kind of call it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from memsidecar.rpc.context import ServicerContext

OUR_SERVICES = "/memsidecar."
"""Beginning of the names of the methods that interceptors are for; health and reflection are left alone."""


async def wrapped_handler(
    continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
    details: grpc.HandlerCallDetails,
    *,
    answering: Callable[[Callable[..., Any]], Callable[..., Awaitable[Any]]],
    streaming: Callable[[Callable[..., Any]], Callable[..., AsyncIterator[Any]]],
    reading: Callable[[Callable[[bytes], Any]], Callable[[bytes], Any]] | None = None,
) -> Any:
    """Give the handler of a call with something around it.

    Args:
        continuation: Gives the handler; as interceptors are given it.
        details: Which call it is.
        answering: Wraps a handler that answers with one message.
        streaming: Wraps a handler that answers with many.
        reading: Wraps what makes a message of bytes.
    """
    handler = await continuation(details)
    if handler is None or not details.method.startswith(OUR_SERVICES):
        return handler
    read = handler.request_deserializer if reading is None else reading(handler.request_deserializer)
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(
            answering(handler.unary_unary), read, handler.response_serializer
        )
    if handler.stream_unary:
        return grpc.stream_unary_rpc_method_handler(
            answering(handler.stream_unary), read, handler.response_serializer
        )
    return grpc.unary_stream_rpc_method_handler(
        streaming(handler.unary_stream), read, handler.response_serializer
    )


def around(
    enter: Callable[[ServicerContext], Any],
) -> tuple[
    Callable[[Callable[..., Any]], Callable[..., Awaitable[Any]]],
    Callable[[Callable[..., Any]], Callable[..., AsyncIterator[Any]]],
]:
    """Give ``answering`` and ``streaming`` for something that is a context manager around the whole call."""

    def answering(behaviour: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        async def answer(request: Any, context: ServicerContext) -> Any:
            with enter(context):
                return await behaviour(request, context)

        return answer

    def streaming(behaviour: Callable[..., Any]) -> Callable[..., AsyncIterator[Any]]:
        async def stream(request: Any, context: ServicerContext) -> AsyncIterator[Any]:
            with enter(context):
                async for message in behaviour(request, context):
                    yield message

        return stream

    return answering, streaming
