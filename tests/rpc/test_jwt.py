"""JSON web tokens: which are believed, what they open, and how keys are rotated."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from memsidecar.domain.errors import KeysUnavailable, SetupError
from memsidecar.rpc import json_web_keys
from memsidecar.rpc.json_web_keys import JsonWebKeys, KeySetFile, KeySetUrl, read_key_set
from memsidecar.v1 import conversation_memory_pb2 as pb
from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceStub
from tests.rpc.statuses import reason
from tests.rpc.test_conversation_memory import AGENT, OTHER_AGENT, turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path
    from uuid import UUID

ISSUER, AUDIENCE, SECRET = "https://identity.example", "memsidecar", "0123456789abcdef0123456789abcdef"
RSA_KEY = rsa.generate_private_key(65537, 2048)
ED25519_KEY = Ed25519PrivateKey.generate()


def rsa_jwk(key: rsa.RSAPrivateKey, **fields: Any) -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "use": "sig", **fields}


def ed25519_jwk(key: Ed25519PrivateKey, **fields: Any) -> dict[str, Any]:
    return {**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), **fields}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


KEY_SET = key_set(rsa_jwk(RSA_KEY, kid="rsa-1"), ed25519_jwk(ED25519_KEY, kid="ed-1"))


def claims(**changes: Any) -> dict[str, Any]:
    """Give good claims; a change to None leaves the claim out."""
    now = int(time.time())
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": now + 300,
        "iat": now,
        "sub": "bot",
        "tenant": "acme",
        "scope": "openid memsidecar:append memsidecar:recall",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def rs256(kid: str | None = "rsa-1", key: Any = RSA_KEY, **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, "RS256", headers={"kid": kid} if kid else None)


def eddsa(**changes: Any) -> str:
    return jwt.encode(claims(**changes), ED25519_KEY, "EdDSA", headers={"kid": "ed-1"})


def hs256(secret: str = SECRET, **changes: Any) -> str:
    return jwt.encode(claims(**changes), secret, "HS256")


def unsigned() -> str:
    return jwt.encode(claims(), "", "none")


def hs256_with_the_public_key() -> str:
    """Sign with what everybody knows, hoping that the server takes the public key for a secret."""

    def part(value: dict[str, Any]) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    import hashlib
    import hmac

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    text = part({"alg": "HS256", "typ": "JWT", "kid": "rsa-1"}) + b"." + part(claims())
    signature = base64.urlsafe_b64encode(hmac.digest(public, text, hashlib.sha256)).rstrip(b"=")
    return (text + b"." + signature).decode()


def tampered() -> str:
    head, _, signature = rs256().split(".")
    payload = base64.urlsafe_b64encode(json.dumps(claims(tenant="other")).encode()).rstrip(b"=").decode()
    return f"{head}.{payload}.{signature}"


class Server:
    """Calls a server with JWTs."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._memory: Any = ConversationMemoryServiceStub(channel)

    async def append(self, token: str, content: str = "x", **fields: Any) -> None:
        await self._memory.AppendTurn(
            pb.AppendTurnRequest(turn=turn(content, **fields)),
            metadata=(("authorization", f"Bearer {token}"),),
        )

    async def listed(self, token: str) -> list[str]:
        response = await self._memory.ListTurns(
            pb.ListTurnsRequest(), metadata=(("authorization", f"Bearer {token}"),)
        )
        return sorted(each.content for each in response.turns)


@pytest.fixture
def jwt_server(start_sidecar: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[Server]:
        keys = tmp_path / "keys.json"
        keys.write_bytes(KEY_SET)
        defaults: dict[str, Any] = {
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
            "jwt_keys": str(keys),
            "jwt_secret": SECRET,
        }
        async with (
            start_sidecar(**{**defaults, **settings}) as sidecar,
            grpc.aio.insecure_channel(sidecar.address) as channel,
        ):
            yield Server(channel)

    return start


async def test_every_algorithm_opens_the_tenant_of_the_claim(
    jwt_server: Callable[..., Any], new_tenant: Callable[..., Awaitable[UUID]]
) -> None:
    acme, other = await new_tenant("acme"), await new_tenant("other")
    async with jwt_server() as server:
        await server.append(rs256(), "signed with RSA")
        await server.append(eddsa(), "signed with Ed25519")
        await server.append(hs256(tenant=str(acme)), "signed with a secret, tenant by id")
        await server.append(rs256(tenant="other"), "of the other tenant")
        assert len(await server.listed(rs256())) == 3
        assert await server.listed(rs256(tenant=str(other))) == ["of the other tenant"]
        assert len(await server.listed(rs256(scope=["memsidecar:recall"]))) == 3


@pytest.mark.parametrize(
    "token",
    [
        rs256(exp=int(time.time()) - 60),
        rs256(nbf=int(time.time()) + 86_400),
        rs256(iat=int(time.time()) + 86_400),
        rs256(exp=None),
        rs256(exp="soon"),
        rs256(aud="another"),
        rs256(aud=None),
        rs256(iss="https://elsewhere.example"),
        rs256(iss=None),
        rs256(tenant=None),
        rs256(tenant=""),
        rs256(tenant="nobody"),
        rs256(tenant="a\x00b"),
        rs256(tenant=["acme", "other"]),
        rs256(tenant="%"),
        rs256(scope=7),
        rs256(agents=[]),
        rs256(agents="none"),
        rs256(agents=["not an id"]),
        rs256(kid="unknown"),
        rs256(key=rsa.generate_private_key(65537, 2048)),
        hs256(secret="another secret of at least 32 bytes!!"),
        unsigned(),
        hs256_with_the_public_key(),
        tampered(),
        "not.a.token",
        "eyJ" * 1000,
    ],
)
async def test_nothing_else_is_believed(
    jwt_server: Callable[..., Any], new_tenant: Callable[..., Awaitable[UUID]], token: str
) -> None:
    await new_tenant("acme")
    async with jwt_server() as server:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await server.listed(token)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert reason(refused.value) == "CREDENTIAL_INVALID"


async def test_scopes_and_agents_limit_what_a_token_opens(
    jwt_server: Callable[..., Any], new_tenant: Callable[..., Awaitable[UUID]]
) -> None:
    await new_tenant("acme")
    async with jwt_server() as server:
        await server.append(rs256(), "of the other agent", agent_id=OTHER_AGENT)
        for refused_call in (
            server.append(rs256(scope="memsidecar:recall")),
            server.append(rs256(scope=None)),
            server.append(rs256(scope="append memsidecar:operator xmemsidecar:append")),
            server.append(rs256(agents=[AGENT]), agent_id=OTHER_AGENT),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await refused_call
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert await server.listed(rs256(agents=[AGENT])) == []


async def test_without_a_secret_no_shared_secret_is_believed(
    jwt_server: Callable[..., Any], new_tenant: Callable[..., Awaitable[UUID]]
) -> None:
    await new_tenant("acme")
    async with jwt_server(jwt_secret=None) as server:
        assert await server.listed(rs256()) == []
        for token in (hs256(), hs256_with_the_public_key()):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await server.listed(token)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_missing_key_file_is_refused_at_the_start(
    jwt_server: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(SetupError, match="MEMSIDECAR_JWT_KEYS"):
        async with jwt_server(jwt_keys=str(tmp_path / "missing.json")):
            pass


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256"},
        rsa_jwk(RSA_KEY, use="enc"),
        rsa_jwk(RSA_KEY, alg="RS512"),
        rsa_jwk(rsa.generate_private_key(65537, 1024)),
        {**RSAAlgorithm.to_jwk(RSA_KEY, as_dict=True)},
        {"kty": "RSA", "n": "AQAB"},
        {"kty": "OKP", "crv": "Ed448", "x": "AAAA"},
        {},
    ],
)
def test_keys_that_cannot_check_a_signature_safely_are_passed_over(entry: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no RSA key"):
        read_key_set(key_set(entry))
    assert list(read_key_set(key_set(entry, rsa_jwk(RSA_KEY, kid="good")))) == [("RS256", "good")]


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"keys": 7}', b'{"keys": [7]}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_key_set_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_key_set(text)


async def test_a_rotated_file_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_web_keys, "RELOAD_PAUSE_SECONDS", 0.0)
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(rsa_jwk(RSA_KEY, kid="old")))
    keys = JsonWebKeys(KeySetFile(path))
    await keys.start()
    assert await keys.find("old", "RS256") is not None
    assert await keys.find(None, "RS256") is not None
    path.write_bytes(key_set(rsa_jwk(RSA_KEY, kid="new")))
    assert await keys.find("new", "RS256") is not None
    assert await keys.find("old", "RS256") is None
    path.write_bytes(b"half a fi")
    assert await keys.find("unknown", "RS256") is None
    assert await keys.find("new", "RS256") is not None
    await keys.stop()


class Issuer:
    """An issuer's web server on the loopback."""

    def __init__(self) -> None:
        self.body: bytes = KEY_SET
        self.status = 200
        self.requests = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests += 1
                self.send_response(issuer.status)
                if issuer.status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(issuer.body)))
                self.end_headers()
                self.wfile.write(issuer.body)

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/keys"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    thread = Thread(target=issuer.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()
    thread.join()


async def test_keys_behind_a_url_are_cached_and_fetched_anew_for_an_unknown_key(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = JsonWebKeys(KeySetUrl(issuer.url))
    await keys.start()
    for _ in range(10):
        assert await keys.find("rsa-1", "RS256") is not None
        assert await keys.find("unknown", "RS256") is None
    assert issuer.requests == 1, "unknown keys must not make us flood the issuer"
    monkeypatch.setattr(json_web_keys, "RELOAD_PAUSE_SECONDS", 0.0)
    issuer.body = key_set(rsa_jwk(RSA_KEY, kid="unknown"))
    found = await asyncio.gather(*(keys.find("unknown", "RS256") for _ in range(20)))
    assert None not in found
    assert issuer.requests == 2, "twenty calls that wait for the same key fetch it once"
    await keys.stop()


@pytest.mark.parametrize(
    ("status", "body"), [(500, b""), (302, KEY_SET), (200, b"{}"), (200, b"[" * 300_000)]
)
async def test_an_issuer_that_answers_nonsense_changes_nothing(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes
) -> None:
    monkeypatch.setattr(json_web_keys, "RELOAD_PAUSE_SECONDS", 0.0)
    keys = JsonWebKeys(KeySetUrl(issuer.url))
    await keys.start()
    issuer.status, issuer.body = status, body
    assert await keys.find("unknown", "RS256") is None
    assert await keys.find("rsa-1", "RS256") is not None
    monkeypatch.setattr(json_web_keys, "BELIEVED_SECONDS", 0.0)
    with pytest.raises(KeysUnavailable):
        await keys.find("rsa-1", "RS256")
    await keys.stop()


async def test_an_issuer_that_is_away_at_the_start_is_waited_for(
    jwt_server: Callable[..., Any], new_tenant: Callable[..., Awaitable[UUID]], issuer: Issuer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    await new_tenant("acme")
    monkeypatch.setattr(json_web_keys, "RELOAD_PAUSE_SECONDS", 0.05)
    issuer.status = 503
    async with jwt_server(jwt_keys=issuer.url) as server:
        with pytest.raises(grpc.aio.AioRpcError) as unavailable:
            await server.listed(rs256())
        assert unavailable.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason(unavailable.value) == "KEYS_UNAVAILABLE"
        issuer.status = 200
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await server.listed(rs256()) == []
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)
