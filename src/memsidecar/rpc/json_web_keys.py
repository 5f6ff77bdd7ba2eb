"""Public keys of an identity provider: a JSON web key set from a file or a URL, kept fresh, rotated by its issuer."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from memsidecar.domain.errors import KeysUnavailable, Problem, SetupError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOGGER = logging.getLogger(__name__)

FILE_REFRESH_SECONDS: Final = 5.0
URL_REFRESH_SECONDS: Final = 300.0
"""How often keys are read again without being asked for one that is not there."""

RELOAD_PAUSE_SECONDS: Final = 5.0
"""Shortest time between two readings that unknown keys ask for: nobody makes us flood the issuer."""

BELIEVED_SECONDS: Final = 3_600.0
"""How long keys are used after the last successful reading: an issuer that is away for longer vouches for nobody."""

FETCH_SECONDS: Final = 5.0
MAX_SET_BYTES: Final = 256 * 1024
SMALLEST_RSA_BITS: Final = 2_048
"""NIST SP 800-131A allows nothing smaller."""


class KeySetSource(Protocol):
    """Where a key set is read."""

    refresh_seconds: float
    required_at_start: bool
    """Whether a set that cannot be read at the start is a mistake, not something to wait for."""

    def read(self) -> bytes:
        """Read the set. Called in a thread. Raises ``OSError`` or ``ValueError``."""
        ...


class KeySetFile:
    """A key set in a file, for example a mounted secret."""

    refresh_seconds = FILE_REFRESH_SECONDS
    required_at_start = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> bytes:
        """Read the file."""
        return self._path.read_bytes()


class KeySetUrl:
    """A key set behind an ``https`` URL (``http`` on loopback)."""

    refresh_seconds = URL_REFRESH_SECONDS
    required_at_start = False

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = urllib.request.build_opener(_NoRedirect)

    def read(self) -> bytes:
        """Fetch the set: no redirects, a bounded time and size."""
        try:
            return self._fetch()
        except http.client.HTTPException as error:
            raise ValueError("the answer is not HTTP") from error

    def _fetch(self) -> bytes:
        ends = time.monotonic() + FETCH_SECONDS
        body = bytearray()
        with self._opener.open(self._url, timeout=FETCH_SECONDS) as response:
            while part := response.read1(16_384):
                body += part
                if len(body) > MAX_SET_BYTES:
                    raise ValueError(f"the key set has more than {MAX_SET_BYTES} bytes")
                if time.monotonic() > ends:
                    raise TimeoutError("the key set came too slowly")
        return bytes(body)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any) -> None:
        return None


def key_set_source(location: str) -> KeySetSource:
    """Give the source for a path or a URL."""
    if urlsplit(location).scheme in {"http", "https"}:
        return KeySetUrl(location)
    return KeySetFile(Path(location))


class JsonWebKeys:
    """The keys of one issuer. Read at the start, then again and again in the background until ``stop``."""

    def __init__(self, source: KeySetSource) -> None:
        self._source = source
        self._keys: Mapping[tuple[str, str | None], Any] = {}
        self._read_at: float | None = None
        self._tried_at = 0.0
        self._reading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the keys and go on doing so; keys behind a URL that does not answer yet are waited for.

        Raises:
            SetupError: The file holds no key set.
        """
        await self._read()
        if self._read_at is None and self._source.required_at_start:
            raise SetupError(
                Problem(
                    "the key set for JWTs cannot be read, or holds no key for RS256 or EdDSA.",
                    "Point MEMSIDECAR_JWT_KEYS to a file with a JSON web key set, or to its https URL.",
                )
            )
        self._task = asyncio.create_task(self._refresh())

    async def stop(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def find(self, key_id: str | None, algorithm: str) -> Any | None:
        """Give the key with an id, or without one the only key there is for the algorithm.

        Args:
            key_id: The ``kid`` of the token's header.
            algorithm: ``RS256`` or ``EdDSA``.

        Raises:
            KeysUnavailable: The keys were never read, or too long ago.
        """
        key = self._lookup(key_id, algorithm)
        if key is None and time.monotonic() - self._tried_at >= RELOAD_PAUSE_SECONDS:
            await self._read()
            key = self._lookup(key_id, algorithm)
        if self._read_at is None or time.monotonic() - self._read_at > BELIEVED_SECONDS:
            raise KeysUnavailable("the keys of the tokens' issuer cannot be read: repeat the call later")
        return key

    def _lookup(self, key_id: str | None, algorithm: str) -> Any | None:
        if key_id is not None:
            return self._keys.get((algorithm, key_id))
        candidates = [key for (kind, _), key in self._keys.items() if kind == algorithm]
        return candidates[0] if len(candidates) == 1 else None

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(
                self._source.refresh_seconds if self._read_at is not None else RELOAD_PAUSE_SECONDS
            )
            await self._read()

    async def _read(self) -> None:
        asked_at = time.monotonic()
        async with self._reading:
            if self._tried_at >= asked_at:
                return  # somebody else read while this one waited
            try:
                self._keys = read_key_set(await asyncio.to_thread(self._source.read))
                self._read_at = time.monotonic()
            except (OSError, ValueError) as error:
                _LOGGER.warning("the keys of the tokens' issuer could not be read: %s", type(error).__name__)
            finally:
                self._tried_at = time.monotonic()


def read_key_set(text: bytes) -> dict[tuple[str, str | None], Any]:
    """Read a JSON web key set (RFC 7517): the public keys that can check RS256 and EdDSA, by algorithm and id.

    Other keys of the set are passed over.

    Raises:
        ValueError: It is no key set, or holds no key that can be used.
    """
    try:
        keys = dict(usable for entry in json.loads(text)["keys"] if (usable := _usable(entry)) is not None)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("this is no JSON web key set") from error
    if not keys:
        raise ValueError(
            "the key set holds no RSA key of 2048 bits or more and no Ed25519 key for signatures"
        )
    return keys


def _usable(entry: Mapping[str, Any]) -> tuple[tuple[str, str | None], Any] | None:
    if entry.get("use", "sig") != "sig" or entry.get("kty") not in {"RSA", "OKP"} or "d" in entry:
        return None
    try:
        key = jwt.PyJWK(dict(entry)).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size >= SMALLEST_RSA_BITS:
        algorithm = "RS256"
    elif isinstance(key, Ed25519PublicKey):
        algorithm = "EdDSA"
    else:
        return None
    if entry.get("alg", algorithm) != algorithm:
        return None
    key_id = entry.get("kid")
    return (algorithm, key_id if isinstance(key_id, str) else None), key
