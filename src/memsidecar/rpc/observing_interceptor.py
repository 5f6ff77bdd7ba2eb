"""Sees every call with the status it ends with: gives it an id, and tells the observer and the log."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from memsidecar.domain.observation import REQUEST_ID
from memsidecar.rpc.wrapped_handler import around, wrapped_handler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from memsidecar.domain.observation import ObservedCall, Observer
    from memsidecar.rpc.context import ServicerContext

_LOGGER = logging.getLogger(__name__)

REQUEST_ID_KEY = "x-request-id"
"""Metadata of a call, and trailing metadata of its answer."""

_GOOD_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
"""What a caller may choose; anything else is replaced, so that nobody writes into the log."""


class ObservingInterceptor(grpc.aio.ServerInterceptor):
    """Outermost interceptor of all."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call."""
        method = handler_call_details.method.rpartition("/")[2]
        answering, streaming = around(lambda context: self._observed(method, context))
        return await wrapped_handler(
            continuation, handler_call_details, answering=answering, streaming=streaming
        )

    @contextmanager
    def _observed(self, method: str, context: ServicerContext) -> Iterator[None]:
        metadata = {
            key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        request_id = metadata.get(REQUEST_ID_KEY, "")
        if not _GOOD_REQUEST_ID.fullmatch(request_id):
            request_id = secrets.token_hex(8)
        REQUEST_ID.set(request_id)
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        started = time.perf_counter()
        with self._observer.call(method, metadata) as call:
            try:
                yield
            except BaseException as error:
                call.code = _code(context, error)
                raise
            finally:
                _log(method, call, started)


def _code(context: ServicerContext, error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        remaining = context.time_remaining()
        return "DEADLINE_EXCEEDED" if remaining is not None and remaining <= 0 else "CANCELLED"
    code = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"


def _log(method: str, call: ObservedCall, started: float) -> None:
    if _LOGGER.isEnabledFor(logging.DEBUG):
        milliseconds = round((time.perf_counter() - started) * 1000, 2)
        _LOGGER.debug("answered", extra={"method": method, "code": call.code, "milliseconds": milliseconds})
