"""Tokens and tenants: what a credential opens, and that it opens nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from memsidecar.app import OPERATOR
from memsidecar.domain.caller import TENANT_RIGHTS, Right
from memsidecar.domain.tokens import TokenRegistry
from memsidecar.postgres.token_store import PostgresTokenStore
from memsidecar.rpc.authentication import TOKEN_CACHE_SECONDS
from memsidecar.v1 import administration_pb2 as admin
from memsidecar.v1 import conversation_memory_pb2 as pb
from memsidecar.v1.administration_pb2_grpc import AdministrationServiceStub
from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceStub
from tests.rpc.statuses import bad_fields, reason
from tests.rpc.test_conversation_memory import AGENT, OTHER_AGENT, turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from memsidecar.postgres.database import Database


class Client:
    """Calls a server that asks for tokens."""

    def __init__(self, channel: grpc.aio.Channel, registry: TokenRegistry) -> None:
        self.channel = channel
        self.memory: Any = ConversationMemoryServiceStub(channel)
        self.administration: Any = AdministrationServiceStub(channel)
        self._registry = registry

    async def secret(self, tenant_id: UUID | None, *rights: Right, agents: tuple[UUID, ...] = ()) -> str:
        _token, secret = await self._registry.create(
            OPERATOR,
            tenant_id=tenant_id,
            name="test",
            rights=frozenset(rights or TENANT_RIGHTS),
            agent_ids=frozenset(agents),
            lifetime=None,
        )
        return str(secret)

    async def append(self, secret: str, content: str, **fields: Any) -> pb.AppendTurnResponse:
        request = pb.AppendTurnRequest(turn=turn(content, **fields))
        response: pb.AppendTurnResponse = await self.memory.AppendTurn(request, metadata=bearer(secret))
        return response

    async def listed(self, secret: str, **scope: Any) -> list[str]:
        request = pb.ListTurnsRequest(scope=pb.TurnScope(**scope))
        response = await self.memory.ListTurns(request, metadata=bearer(secret))
        return sorted(each.content for each in response.turns)


def bearer(secret: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret}"),)


@pytest.fixture
async def client(start_sidecar: Callable[..., Any], database: Database) -> AsyncIterator[Client]:
    async with (
        start_sidecar(authentication="token") as sidecar,
        grpc.aio.insecure_channel(sidecar.address) as channel,
    ):
        yield Client(channel, TokenRegistry(PostgresTokenStore(database)))


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", ""),),
        (("authorization", "Bearer"),),
        (("authorization", "Basic dTpw"),),
        (("authorization", "Bearer msc_wrong"),),
    ],
)
async def test_without_a_valid_token_nothing_is_open(
    client: Client, metadata: tuple[tuple[str, str], ...]
) -> None:
    for call, request in (
        (client.memory.AppendTurn, pb.AppendTurnRequest(turn=turn("x"))),
        (client.memory.RecallSimilar, pb.RecallSimilarRequest(query="x")),
        (client.memory.ListTurns, pb.ListTurnsRequest()),
        (client.administration.GetServerInfo, admin.GetServerInfoRequest()),
        (client.administration.ListTenants, admin.ListTenantsRequest()),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(request, metadata=metadata)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert reason(refused.value) == "CREDENTIAL_INVALID"


async def test_tenants_do_not_see_each_other(
    client: Client, new_tenant: Callable[..., Awaitable[UUID]]
) -> None:
    ours, theirs = (
        await client.secret(await new_tenant("ours")),
        await client.secret(await new_tenant("theirs")),
    )
    stored = await client.append(theirs, "their secret")
    await client.append(ours, "our note")
    assert await client.listed(ours) == ["our note"]
    assert await client.listed(theirs) == ["their secret"]
    found = await client.memory.RecallSimilar(pb.RecallSimilarRequest(query="secret"), metadata=bearer(ours))
    assert [hit.turn.content for hit in found.hits] == ["our note"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.memory.GetTurn(pb.GetTurnRequest(turn_id=stored.turn.turn_id), metadata=bearer(ours))
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await client.memory.GetTurn(pb.GetTurnRequest(turn_id=str(uuid4())), metadata=bearer(ours))
    assert refused.value.code() is unknown.value.code() is grpc.StatusCode.NOT_FOUND
    assert refused.value.details() == unknown.value.details()


async def test_a_right_opens_its_calls_only(client: Client, tenant_id: UUID) -> None:
    appending, recalling = (
        await client.secret(tenant_id, Right.APPEND),
        await client.secret(tenant_id, Right.RECALL),
    )
    await client.append(appending, "kept")
    assert await client.listed(recalling) == ["kept"]
    for refused_call in (client.append(recalling, "x"), client.listed(appending)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await refused_call
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_token_for_one_agent_covers_no_other(client: Client, tenant_id: UUID) -> None:
    every, one = await client.secret(tenant_id), await client.secret(tenant_id, agents=(UUID(AGENT),))
    await client.append(every, "of the first agent")
    hidden = await client.append(every, "of the other agent", agent_id=OTHER_AGENT)
    assert await client.listed(one) == ["of the first agent"]
    for refused_call in (
        client.append(one, "x", agent_id=OTHER_AGENT),
        client.listed(one, agent_id=OTHER_AGENT),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await refused_call
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await client.memory.GetTurn(pb.GetTurnRequest(turn_id=hidden.turn.turn_id), metadata=bearer(one))
    assert missing.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_revoked_token_stops_within_seconds(client: Client, tenant_id: UUID) -> None:
    admin_secret, victim = await client.secret(tenant_id), await client.secret(tenant_id, Right.RECALL)
    assert await client.listed(victim) == []
    tokens = await client.administration.ListTokens(admin.ListTokensRequest(), metadata=bearer(admin_secret))
    token = next(token for token in tokens.tokens if list(token.rights) == [admin.RIGHT_RECALL])
    assert "secret" not in str(token).lower()
    request = admin.RevokeTokenRequest(token_id=token.token_id)
    revoked = await client.administration.RevokeToken(request, metadata=bearer(admin_secret))
    assert revoked.token.HasField("revoked_at")
    await asyncio.sleep(TOKEN_CACHE_SECONDS + 0.1)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.listed(victim)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_rotated_token_works_on_for_the_overlap(client: Client, tenant_id: UUID) -> None:
    secret = await client.secret(tenant_id)
    [token] = (
        await client.administration.ListTokens(admin.ListTokensRequest(), metadata=bearer(secret))
    ).tokens
    rotated = await client.administration.RotateToken(
        admin.RotateTokenRequest(token_id=token.token_id, overlap=Duration(seconds=60)),
        metadata=bearer(secret),
    )
    assert rotated.token.rights == token.rights
    assert await client.listed(rotated.secret) == await client.listed(secret) == []
    at_once = await client.administration.RotateToken(
        admin.RotateTokenRequest(token_id=rotated.token.token_id, overlap=Duration()), metadata=bearer(secret)
    )
    await asyncio.sleep(TOKEN_CACHE_SECONDS + 0.1)
    assert await client.listed(at_once.secret) == []
    with pytest.raises(grpc.aio.AioRpcError):
        await client.listed(rotated.secret)


async def test_a_token_cannot_make_one_that_may_more(client: Client, tenant_id: UUID) -> None:
    limited = await client.secret(tenant_id, Right.ADMIN, Right.RECALL)
    for rights in ([admin.RIGHT_APPEND], [admin.RIGHT_OPERATOR]):
        with pytest.raises(grpc.aio.AioRpcError):
            await client.administration.CreateToken(
                admin.CreateTokenRequest(name="more", rights=rights), metadata=bearer(limited)
            )
    made = await client.administration.CreateToken(
        admin.CreateTokenRequest(name="same", rights=[admin.RIGHT_RECALL]), metadata=bearer(limited)
    )
    assert await client.listed(made.secret) == []


async def test_a_token_cannot_rotate_one_that_may_more(client: Client, tenant_id: UUID) -> None:
    """The rotator is told the new secret: rotating must not be a way to more rights, other agents or operators."""
    await client.secret(tenant_id)
    await client.secret(tenant_id, Right.ADMIN, agents=(UUID(OTHER_AGENT),))
    operator = await client.secret(None, Right.OPERATOR)
    limited = await client.secret(tenant_id, Right.ADMIN, agents=(UUID(AGENT),))
    listed = await client.administration.ListTokens(admin.ListTokensRequest(), metadata=bearer(limited))
    operators = await client.administration.ListTokens(admin.ListTokensRequest(), metadata=bearer(operator))
    assert len(listed.tokens) == 3
    for token, code in [
        *(
            (token, grpc.StatusCode.PERMISSION_DENIED)
            for token in listed.tokens
            if token.agent_ids != [AGENT]
        ),
        (operators.tokens[0], grpc.StatusCode.NOT_FOUND),
    ]:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.administration.RotateToken(
                admin.RotateTokenRequest(token_id=token.token_id), metadata=bearer(limited)
            )
        assert refused.value.code() is code
    unchanged = await client.administration.ListTokens(admin.ListTokensRequest(), metadata=bearer(limited))
    assert unchanged.tokens == listed.tokens
    own = next(token for token in listed.tokens if token.agent_ids == [AGENT])
    rotated = await client.administration.RotateToken(
        admin.RotateTokenRequest(token_id=own.token_id), metadata=bearer(limited)
    )
    assert rotated.token.agent_ids == [AGENT]


async def test_a_token_expires(client: Client, tenant_id: UUID) -> None:
    secret = await client.secret(tenant_id)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.administration.CreateToken(
            admin.CreateTokenRequest(name="x", rights=[admin.RIGHT_RECALL], lifetime=Duration(seconds=1)),
            metadata=bearer(secret),
        )
    assert bad_fields(refused.value) == ["lifetime"]
    made = await client.administration.CreateToken(
        admin.CreateTokenRequest(name="x", rights=[admin.RIGHT_RECALL], lifetime=Duration(seconds=60)),
        metadata=bearer(secret),
    )
    assert made.token.expires_at.seconds - made.token.created_at.seconds == 60


async def test_an_operator_keeps_tenants_and_sees_no_memory(client: Client) -> None:
    operator = await client.secret(None, Right.OPERATOR)
    made = await client.administration.CreateTenant(
        admin.CreateTenantRequest(tenant=admin.Tenant(name="acme", language="german")),
        metadata=bearer(operator),
    )
    with pytest.raises(grpc.aio.AioRpcError) as taken:
        await client.administration.CreateTenant(
            admin.CreateTenantRequest(tenant=admin.Tenant(name="acme")), metadata=bearer(operator)
        )
    assert taken.value.code() is grpc.StatusCode.ALREADY_EXISTS
    change = admin.Tenant(
        tenant_id=made.tenant.tenant_id, quota=admin.Quota(max_turns=10, calls_per_second=5)
    )
    change.retention.turns.FromSeconds(86_400)
    updated = await client.administration.UpdateTenant(
        admin.UpdateTenantRequest(
            tenant=change, update_mask=FieldMask(paths=["quota.max_turns", "retention.turns"])
        ),
        metadata=bearer(operator),
    )
    assert updated.tenant.quota.max_turns == 10
    assert updated.tenant.quota.calls_per_second == 0
    assert updated.tenant.retention.turns.seconds == 86_400
    assert updated.tenant.language == "german"
    listed = await client.administration.ListTenants(admin.ListTenantsRequest(), metadata=bearer(operator))
    assert [tenant.name for tenant in listed.tenants] == ["acme"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.listed(operator)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_tenant_reads_itself_and_no_other(
    client: Client, new_tenant: Callable[..., Awaitable[UUID]]
) -> None:
    ours, theirs = await new_tenant("ours"), await new_tenant("theirs")
    secret = await client.secret(ours)
    own = await client.administration.GetTenant(admin.GetTenantRequest(), metadata=bearer(secret))
    assert own.tenant.name == "ours"
    for foreign in (theirs, uuid4()):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.administration.GetTenant(
                admin.GetTenantRequest(tenant_id=str(foreign)), metadata=bearer(secret)
            )
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as denied:
        await client.administration.ListTenants(admin.ListTenantsRequest(), metadata=bearer(secret))
    assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_bad_tenants_are_refused(client: Client) -> None:
    operator = await client.secret(None, Right.OPERATOR)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.administration.CreateTenant(
            admin.CreateTenantRequest(
                tenant=admin.Tenant(name="Not A Name", language="klingon", tenant_id="7")
            ),
            metadata=bearer(operator),
        )
    assert sorted(bad_fields(refused.value)) == ["tenant.language", "tenant.name", "tenant.tenant_id"]
