"""Tenants that credentials name, remembered for a moment."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final
from uuid import UUID

from memsidecar.domain.errors import Unauthenticated

if TYPE_CHECKING:
    from memsidecar.domain.tenants import Tenant, TenantStore

REMEMBER_SECONDS: Final = 2.0
"""How long a tenant is believed to be as it was read."""

REMEMBER_AT_MOST: Final = 10_000


class KnownTenants:
    """Finds tenants by the name or id that a JWT or the entry of a certificate gives."""

    def __init__(self, store: TenantStore) -> None:
        self._store = store
        self._known: OrderedDict[str, tuple[float, Tenant | None]] = OrderedDict()

    async def find(self, name_or_id: str, deadline: float | None) -> Tenant:
        """Read a tenant.

        Args:
            name_or_id: Its name, or its UUID in canonical form.
            deadline: Event loop time at which the caller stops waiting.

        Raises:
            Unauthenticated: There is none.
        """
        now = asyncio.get_running_loop().time()
        remembered = self._known.get(name_or_id)
        if remembered is not None and now < remembered[0]:
            tenant = remembered[1]
        else:
            tenant = await self._read(name_or_id, deadline)
            self._known[name_or_id] = (now + REMEMBER_SECONDS, tenant)
            self._known.move_to_end(name_or_id)
            while len(self._known) > REMEMBER_AT_MOST:
                self._known.popitem(last=False)
        if tenant is None:
            raise Unauthenticated("the credential names a tenant that does not exist here")
        return tenant

    async def _read(self, name_or_id: str, deadline: float | None) -> Tenant | None:
        try:
            return await self._store.find(tenant_id=UUID(name_or_id), deadline=deadline)
        except ValueError:
            return await self._store.find(name=name_or_id, deadline=deadline)
