"""TLS and client certificates: who gets in, as whom, and replacing files without a restart."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cryptography import x509

from memsidecar.app import OPERATOR
from memsidecar.domain.caller import TENANT_RIGHTS
from memsidecar.domain.errors import SetupError
from memsidecar.domain.tokens import TokenRegistry
from memsidecar.postgres.token_store import PostgresTokenStore
from memsidecar.rpc.certificate_authentication import read_entries
from memsidecar.v1 import administration_pb2 as admin
from memsidecar.v1 import conversation_memory_pb2 as pb
from memsidecar.v1.administration_pb2_grpc import AdministrationServiceStub
from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceStub
from tests.rpc.certificates import Authority
from tests.rpc.test_conversation_memory import AGENT, OTHER_AGENT, turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path
    from uuid import UUID

    from memsidecar.postgres.database import Database
    from tests.rpc.certificates import Issued

BOT = "spiffe://example.org/bots/acme"


class Server:
    """A server with TLS, and clients of it."""

    def __init__(self, address: str, authority: Authority) -> None:
        self.address = address
        self.authority = authority

    @asynccontextmanager
    async def channel(self, client: Issued | None = None) -> AsyncIterator[grpc.aio.Channel]:
        credentials = grpc.ssl_channel_credentials(
            self.authority.pem,
            client.key_pem if client else None,
            client.certificate_pem if client else None,
        )
        async with grpc.aio.secure_channel(self.address, credentials) as channel:
            yield channel

    async def listed(self, client: Issued | None = None, token: str | None = None) -> list[str]:
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        async with self.channel(client) as channel:
            memory: Any = ConversationMemoryServiceStub(channel)
            response = await memory.ListTurns(pb.ListTurnsRequest(), metadata=metadata, timeout=5)
            return [each.content for each in response.turns]

    async def append(self, client: Issued, content: str, **fields: Any) -> None:
        async with self.channel(client) as channel:
            memory: Any = ConversationMemoryServiceStub(channel)
            await memory.AppendTurn(pb.AppendTurnRequest(turn=turn(content, **fields)), timeout=5)


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def tls_server(start_sidecar: Callable[..., Any], authority: Authority, tmp_path: Path) -> Callable[..., Any]:
    """Start a server with TLS; ``clients`` are the entries of the list of client certificates."""

    @asynccontextmanager
    async def start(clients: list[dict[str, Any]] | None = None, **settings: Any) -> AsyncIterator[Server]:
        certificate, key = authority.server().write(tmp_path)
        if clients is not None:
            (tmp_path / "authority.crt").write_bytes(authority.pem)
            write_clients(tmp_path, clients)
            settings |= {
                "tls_client_authority": tmp_path / "authority.crt",
                "tls_clients": tmp_path / "clients.json",
            }
        settings = {"authentication": "token", "tls_certificate": certificate, "tls_key": key, **settings}
        async with start_sidecar(**settings) as sidecar:
            yield Server(sidecar.address, authority)

    return start


def write_clients(folder: Path, clients: list[dict[str, Any]]) -> None:
    (folder / "clients.new").write_text(json.dumps({"certificates": clients}))
    (folder / "clients.new").rename(folder / "clients.json")


async def code_of(call: Awaitable[Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code()


async def new_token(database: Database, tenant_id: UUID) -> str:
    _token, secret = await TokenRegistry(PostgresTokenStore(database)).create(
        OPERATOR,
        tenant_id=tenant_id,
        name="test",
        rights=TENANT_RIGHTS,
        agent_ids=frozenset(),
        lifetime=None,
    )
    return str(secret)


async def test_tokens_travel_over_tls(
    tls_server: Callable[..., Any], database: Database, tenant_id: UUID
) -> None:
    async with tls_server() as server:
        assert await server.listed(token=await new_token(database, tenant_id)) == []
        assert await code_of(server.listed()) is grpc.StatusCode.UNAUTHENTICATED
        async with grpc.aio.insecure_channel(server.address) as in_the_clear:
            memory: Any = ConversationMemoryServiceStub(in_the_clear)
            assert await code_of(memory.ListTurns(pb.ListTurnsRequest())) is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_opens_its_tenant_and_no_other(
    tls_server: Callable[..., Any],
    authority: Authority,
    new_tenant: Callable[..., Awaitable[UUID]],
    database: Database,
) -> None:
    await new_tenant("acme")
    other_id = await new_tenant("other")
    bot = authority.client("bot", x509.UniformResourceIdentifier(BOT))
    other = authority.client("other bot", x509.DNSName("bot.other.example"))
    clients = [
        {"identity": f"URI:{BOT}", "tenant": "acme", "rights": ["append", "recall"], "agents": [AGENT]},
        {"identity": "DNS:bot.other.example", "tenant": str(other_id), "rights": ["recall"]},
        {"identity": "CN:platform", "rights": ["operator"]},
    ]
    async with tls_server(clients) as server:
        await server.append(bot, "said in acme")
        assert await server.listed(bot) == ["said in acme"]
        assert await server.listed(other) == []
        assert await code_of(server.append(other, "x")) is grpc.StatusCode.PERMISSION_DENIED
        assert (
            await code_of(server.append(bot, "x", agent_id=OTHER_AGENT)) is grpc.StatusCode.PERMISSION_DENIED
        )
        # A token says who is calling, whatever certificate the connection has.
        assert await server.listed(bot, token=await new_token(database, other_id)) == []
        assert await code_of(server.listed(bot, token="msc_wrong")) is grpc.StatusCode.UNAUTHENTICATED
        async with server.channel(authority.client("platform")) as channel:
            administration: Any = AdministrationServiceStub(channel)
            tenants = (await administration.ListTenants(admin.ListTenantsRequest())).tenants
            assert [tenant.name for tenant in tenants] == ["acme", "other"]


async def test_certificates_that_are_not_listed_or_not_ours_open_nothing(
    tls_server: Callable[..., Any], authority: Authority, tenant_id: UUID
) -> None:
    clients = [
        {"identity": f"URI:{BOT}", "tenant": str(tenant_id), "rights": ["recall"]},
        {"identity": "CN:bot", "tenant": str(tenant_id), "rights": ["append"]},
    ]
    good = authority.client("x", x509.UniformResourceIdentifier(BOT))
    async with tls_server(clients) as server:
        assert await server.listed(good) == []
        for certificate in (
            authority.client("x"),
            authority.client("x", x509.UniformResourceIdentifier(BOT + "/more")),
            authority.client("x", x509.DNSName("spiffe")),
            authority.client(f"URI:{BOT}"),
            authority.client(BOT),
            # Two entries at once: nobody can say which was meant.
            authority.client("bot", x509.UniformResourceIdentifier(BOT)),
        ):
            assert await code_of(server.listed(certificate)) is grpc.StatusCode.UNAUTHENTICATED
        forged = Authority("test authority").client("x", x509.UniformResourceIdentifier(BOT))
        for refused in (forged, None):
            assert await code_of(server.listed(refused)) is grpc.StatusCode.UNAVAILABLE


async def test_everything_is_replaced_without_a_restart(
    tls_server: Callable[..., Any], authority: Authority, tenant_id: UUID, tmp_path: Path
) -> None:
    entry = {"identity": f"URI:{BOT}", "tenant": str(tenant_id), "rights": ["recall"]}
    bot = authority.client("x", x509.UniformResourceIdentifier(BOT))
    async with tls_server([entry]) as server:
        assert await server.listed(bot) == []
        # The list of certificates: withdrawn, broken (the last good one stays), given back.
        write_clients(tmp_path, [])
        assert await code_of(server.listed(bot)) is grpc.StatusCode.UNAUTHENTICATED
        (tmp_path / "clients.json").write_text("{")
        assert await code_of(server.listed(bot)) is grpc.StatusCode.UNAUTHENTICATED
        write_clients(tmp_path, [entry])
        assert await server.listed(bot) == []
        # The server's certificate, by another authority: a key alone is not yet a pair.
        renewed = Authority("renewed")
        issued = renewed.server()
        (tmp_path / "server.key").write_bytes(issued.key_pem)
        assert await server.listed(bot) == []
        issued.write(tmp_path)
        assert await code_of(server.listed(bot)) is grpc.StatusCode.UNAVAILABLE
        server.authority = renewed
        assert await server.listed(bot) == []
        # The authority of the clients.
        (tmp_path / "authority.crt").write_bytes(renewed.pem)
        assert await code_of(server.listed(bot)) is grpc.StatusCode.UNAVAILABLE
        assert await server.listed(renewed.client("x", x509.UniformResourceIdentifier(BOT))) == []


async def test_files_that_do_not_fit_are_refused_at_the_start(
    tls_server: Callable[..., Any], authority: Authority, tmp_path: Path
) -> None:
    other_key = tmp_path / "other.key"
    other_key.write_bytes(authority.server().key_pem)
    for settings, match in (
        ({"tls_key": other_key}, "does not belong"),
        ({"tls_key": tmp_path / "missing"}, "cannot be read"),
        ({"tls_certificate": other_key}, "no certificate"),
        ({"tls_key": tmp_path / "server.crt"}, "no private key"),
    ):
        with pytest.raises(SetupError, match=match):
            async with tls_server(**settings):
                pass


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"[]", "not of the form"),
        (b"{", "Expecting"),
        (b'{"certificates": [7]}', "not of the form"),
        (b'{"certificates": [{}]}', "identity must be .* rights must be .*"),
        (b'{"certificates": [{"identity": "bot", "tenant": "a", "rights": ["recall"]}]}', "identity must be"),
        (b'{"certificates": [{"identity": "CN:", "tenant": "a", "rights": ["recall"]}]}', "identity must be"),
        (b'{"certificates": [{"identity": "CN:a", "rights": ["recall"]}]}', "tenant must be"),
        (b'{"certificates": [{"identity": "CN:a", "tenant": "a", "rights": "append"}]}', "rights must be"),
        (b'{"certificates": [{"identity": "CN:a", "tenant": "a", "rights": ["all"]}]}', "rights must be"),
        (b'{"certificates": [{"identity": "CN:a", "tenant": "a", "rights": ["operator"]}]}', "stands alone"),
        (
            b'{"certificates": [{"identity": "CN:a", "tenant": "a", "rights": ["recall"], "agents": []}]}',
            "agents must be",
        ),
        (
            b'{"certificates": [{"identity": "CN:a", "tenant": "a", "rights": ["recall"], "agent": ["x"]}]}',
            "agent is not known",
        ),
        (
            json.dumps(
                {"certificates": [{"identity": "CN:a", "tenant": "a", "rights": ["recall"]}] * 2}
            ).encode(),
            "there twice",
        ),
    ],
)
def test_a_wrong_list_of_certificates_says_what_is_wrong(text: bytes, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        read_entries(text)
