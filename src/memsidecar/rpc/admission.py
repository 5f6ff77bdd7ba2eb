"""Lets callers in: as often as their tenant may, as many as leave room for others, as long as they are valid."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc_status import rpc_status

from memsidecar.domain.call_rates import CallRates
from memsidecar.domain.errors import DomainError, Overloaded, QuotaExceeded, QuotaViolation, Unauthenticated
from memsidecar.domain.fair_share import FairShare
from memsidecar.rpc.errors import status_of

if TYPE_CHECKING:
    from uuid import UUID

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.quotas import Quota
    from memsidecar.rpc.authentication import Authentication
    from memsidecar.rpc.context import ServicerContext

_LOGGER = logging.getLogger(__name__)

MOST_CALLS: Final = 1_000
"""Calls under way at once, shared fairly among tenants; what is over this would only wait, and take memory."""

RECHECK_SECONDS: Final = 2.0
"""A call that lasts, such as one that watches a job, ends so soon after its credential was revoked."""


class Admission:
    """Finds out who is calling, and gives the tenant its limits. Implements ``Authentication``.

    Args:
        authentication: Says who is calling.
        defaults: Limits of tenants that have none of their own.
    """

    def __init__(self, authentication: Authentication, defaults: Quota) -> None:
        self._authentication = authentication
        self._defaults = defaults
        self._rates = CallRates()
        self._running = FairShare(MOST_CALLS)
        self._rechecks: set[asyncio.Task[None]] = set()

    async def caller(self, context: ServicerContext) -> Caller:
        """Give the caller of a call, with its quota.

        Raises:
            Unauthenticated: As ``Authentication.caller``.
            QuotaExceeded: The tenant calls too often; the error says when it may again.
            Overloaded: So many calls of the tenant are under way that others would find no room.
        """
        caller = await self._authentication.caller(context)
        if caller.tenant_id is not None:
            caller = self._admitted(caller, caller.tenant_id)
        if not self._running.take_now(caller.tenant_id):
            raise Overloaded(
                "too many calls are under way: repeat the call after the given delay, or add replicas",
                retry_after=timedelta(seconds=1),
            )
        recheck = asyncio.get_running_loop().call_later(RECHECK_SECONDS, self._recheck, context)

        def leave(_context: Any) -> None:
            recheck.cancel()
            self._running.give_back(caller.tenant_id)

        context.add_done_callback(leave)  # type: ignore[arg-type]  # the stubs want keyword names
        return caller

    def _admitted(self, caller: Caller, tenant_id: UUID) -> Caller:
        quota = caller.quota.with_defaults(self._defaults)
        wait = self._rates.count(tenant_id, quota.calls_per_second) if quota.calls_per_second else 0.0
        if wait:
            raise QuotaExceeded(
                f"this tenant may make {quota.calls_per_second:,} calls per second: repeat the call after the given"
                " delay, or have the quota raised",
                violations=[
                    QuotaViolation(
                        "calls_per_second", f"more than {quota.calls_per_second:,} calls per second"
                    )
                ],
                retry_after=timedelta(seconds=wait),
            )
        return replace(caller, quota=quota)

    def _recheck(self, context: ServicerContext) -> None:
        task = asyncio.create_task(self._check_until_done(context))
        self._rechecks.add(task)
        task.add_done_callback(self._rechecks.discard)

    async def _check_until_done(self, context: ServicerContext) -> None:
        """End a call that goes on although its credential has ended."""
        while not context.done():
            try:
                await self._authentication.caller(context)
            except Unauthenticated as error:
                with suppress(grpc.aio.AbortError, asyncio.InvalidStateError):
                    await context.abort_with_status(rpc_status.to_status(status_of(error)))
                return
            except DomainError:
                _LOGGER.debug("a credential could not be checked again; it is believed until it can")
            await asyncio.sleep(RECHECK_SECONDS)
