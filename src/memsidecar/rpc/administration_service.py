"""AdministrationService: tenants, tokens, forgetting, taking along, and the trail of all of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from memsidecar.domain.languages import LANGUAGES
from memsidecar.domain.limits import DEFAULT_PAGE_SIZE
from memsidecar.domain.paging import decode_page_token, encode_page_token
from memsidecar.domain.tokens import DEFAULT_OVERLAP, MAX_OVERLAP
from memsidecar.rpc.administration_messages import (
    read_rights,
    read_tenant_changes,
    read_tenant_name,
    read_tenant_settings,
    right_values,
    tenant_message,
    token_message,
)
from memsidecar.rpc.audit_handlers import AuditHandlers
from memsidecar.rpc.erasure_handlers import ErasureHandlers
from memsidecar.rpc.export_handlers import ExportHandlers
from memsidecar.rpc.messages import model_message
from memsidecar.rpc.validation import Violations
from memsidecar.v1 import administration_pb2 as pb
from memsidecar.v1.administration_pb2_grpc import AdministrationServiceServicer

if TYPE_CHECKING:
    from memsidecar.domain.audit import AuditTrail
    from memsidecar.domain.embedding import ModelIdentity
    from memsidecar.domain.erasure import Erasures
    from memsidecar.domain.tenants import TenantDirectory
    from memsidecar.domain.tokens import TokenRegistry
    from memsidecar.domain.user_export import UserExports
    from memsidecar.rpc.authentication import Authentication
    from memsidecar.rpc.context import ServicerContext

MAX_TOKEN_NAME_CHARACTERS = 128
MAX_TOKEN_AGENTS = 64
_SHORTEST_LIFETIME = timedelta(minutes=1)
_LONGEST_LIFETIME = timedelta(days=3_653)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server is."""

    version: str
    model: ModelIdentity
    postgres_version: str
    pgvector_version: str
    schema_revision: str


class AdministrationService(ErasureHandlers, ExportHandlers, AuditHandlers, AdministrationServiceServicer):
    """Checks requests, calls the use cases, builds responses; the contract is documented in the proto."""

    def __init__(
        self,
        authentication: Authentication,
        *,
        tenants: TenantDirectory,
        tokens: TokenRegistry,
        erasures: Erasures,
        exports: UserExports,
        audit: AuditTrail,
        info: ServerInfo,
    ) -> None:
        self._authentication = authentication
        self._tenants = tenants
        self._tokens = tokens
        self._erasures = erasures
        self._exports = exports
        self._audit = audit
        self._info = info

    async def GetServerInfo(
        self, _request: pb.GetServerInfoRequest, context: ServicerContext
    ) -> pb.GetServerInfoResponse:
        """Say what this server is."""
        caller = await self._authentication.caller(context)
        return pb.GetServerInfoResponse(
            version=self._info.version,
            model=model_message(self._info.model),
            postgres_version=self._info.postgres_version,
            pgvector_version=self._info.pgvector_version,
            schema_revision=self._info.schema_revision,
            tenant_id="" if caller.tenant_id is None else str(caller.tenant_id),
            rights=right_values(caller.rights),
        )

    async def CreateTenant(
        self, request: pb.CreateTenantRequest, context: ServicerContext
    ) -> pb.CreateTenantResponse:
        """Make a tenant."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        name = read_tenant_name(violations, "tenant.name", request.tenant.name)
        settings = read_tenant_settings(violations, request.tenant, LANGUAGES)
        tenant_id = violations.optional_uuid("tenant.tenant_id", request.tenant.tenant_id)
        violations.raise_if_any()
        tenant = await self._tenants.create(caller, name, settings, tenant_id)
        return pb.CreateTenantResponse(tenant=tenant_message(tenant))

    async def GetTenant(self, request: pb.GetTenantRequest, context: ServicerContext) -> pb.GetTenantResponse:
        """Read a tenant."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        tenant_id = violations.optional_uuid("tenant_id", request.tenant_id)
        violations.raise_if_any()
        return pb.GetTenantResponse(tenant=tenant_message(await self._tenants.get(caller, tenant_id)))

    async def ListTenants(
        self, request: pb.ListTenantsRequest, context: ServicerContext
    ) -> pb.ListTenantsResponse:
        """List tenants by name."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        limit = violations.page_size(request.page_size, default=DEFAULT_PAGE_SIZE)
        violations.raise_if_any()
        position = decode_page_token(request.page_token, request_key="tenants", kinds=(str,))
        page = await self._tenants.list(caller, after=position[0] if position else "", limit=limit)
        return pb.ListTenantsResponse(
            tenants=[tenant_message(tenant) for tenant in page.items],
            next_page_token=encode_page_token(page.next_position, request_key="tenants"),
        )

    async def UpdateTenant(
        self, request: pb.UpdateTenantRequest, context: ServicerContext
    ) -> pb.UpdateTenantResponse:
        """Change the settings of a tenant."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        tenant_id = violations.uuid("tenant.tenant_id", request.tenant.tenant_id)
        changes = read_tenant_changes(violations, request, LANGUAGES)
        violations.raise_if_any()
        return pb.UpdateTenantResponse(
            tenant=tenant_message(await self._tenants.update(caller, tenant_id, changes))
        )

    async def CreateToken(
        self, request: pb.CreateTokenRequest, context: ServicerContext
    ) -> pb.CreateTokenResponse:
        """Make a token."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        tenant_id = violations.optional_uuid("tenant_id", request.tenant_id)
        name = violations.text("name", request.name, most=MAX_TOKEN_NAME_CHARACTERS, least=1)
        rights = read_rights(violations, request.rights)
        agent_ids = violations.uuids("agent_ids", request.agent_ids, most=MAX_TOKEN_AGENTS)
        lifetime = violations.duration(
            "lifetime",
            request.lifetime if request.HasField("lifetime") else None,
            least=_SHORTEST_LIFETIME,
            most=_LONGEST_LIFETIME,
        )
        violations.raise_if_any()
        token, secret = await self._tokens.create(
            caller,
            tenant_id=tenant_id,
            name=name,
            rights=rights,
            agent_ids=frozenset(agent_ids),
            lifetime=lifetime,
        )
        return pb.CreateTokenResponse(token=token_message(token), secret=secret)

    async def ListTokens(
        self, request: pb.ListTokensRequest, context: ServicerContext
    ) -> pb.ListTokensResponse:
        """List tokens."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        tenant_id = violations.optional_uuid("tenant_id", request.tenant_id)
        limit = violations.page_size(request.page_size, default=DEFAULT_PAGE_SIZE)
        violations.raise_if_any()
        request_key = f"tokens {tenant_id}"
        after = decode_page_token(request.page_token, request_key=request_key, kinds=(datetime, UUID))
        page = await self._tokens.list(caller, tenant_id=tenant_id, after=after, limit=limit)
        return pb.ListTokensResponse(
            tokens=[token_message(token) for token in page.items],
            next_page_token=encode_page_token(page.next_position, request_key=request_key),
        )

    async def RotateToken(
        self, request: pb.RotateTokenRequest, context: ServicerContext
    ) -> pb.RotateTokenResponse:
        """Make a successor of a token."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        token_id = violations.uuid("token_id", request.token_id)
        overlap = violations.duration(
            "overlap",
            request.overlap if request.HasField("overlap") else None,
            least=timedelta(0),
            most=MAX_OVERLAP,
        )
        violations.raise_if_any()
        token, secret = await self._tokens.rotate(
            caller, token_id, DEFAULT_OVERLAP if overlap is None else overlap
        )
        return pb.RotateTokenResponse(token=token_message(token), secret=secret)

    async def RevokeToken(
        self, request: pb.RevokeTokenRequest, context: ServicerContext
    ) -> pb.RevokeTokenResponse:
        """End a token."""
        caller = await self._authentication.caller(context)
        violations = Violations()
        token_id = violations.uuid("token_id", request.token_id)
        violations.raise_if_any()
        return pb.RevokeTokenResponse(token=token_message(await self._tokens.revoke(caller, token_id)))
