"""Lets callers in as often as their tenant may call."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from memsidecar.domain.call_rates import CallRates
from memsidecar.domain.errors import QuotaExceeded, QuotaViolation

if TYPE_CHECKING:
    from memsidecar.domain.caller import Caller
    from memsidecar.domain.quotas import Quota
    from memsidecar.rpc.authentication import Authentication
    from memsidecar.rpc.context import ServicerContext


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

    async def caller(self, context: ServicerContext) -> Caller:
        """Give the caller of a call, with its quota.

        Raises:
            Unauthenticated: As ``Authentication.caller``.
            QuotaExceeded: The tenant calls too often; the error says when it may again.
        """
        caller = await self._authentication.caller(context)
        if caller.tenant_id is None:
            return caller
        quota = caller.quota.with_defaults(self._defaults)
        wait = self._rates.count(caller.tenant_id, quota.calls_per_second) if quota.calls_per_second else 0.0
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
