"""Pages of a listing and the opaque tokens between them."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from memsidecar.domain.errors import FieldViolation, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page and the position after it."""

    items: tuple[T, ...]
    next_position: tuple[Any, ...] | None
    """Strings, integers, moments and UUIDs that the next page starts after; None at the end."""


def encode_page_token(position: tuple[Any, ...] | None, *, request_key: str) -> str:
    """Make the opaque token for the page after ``position``; empty at the end.

    Args:
        position: Strings, integers, moments and UUIDs.
        request_key: Text that stands for the other fields of the request; a token is refused with other fields.
    """
    if position is None:
        return ""
    values = [value.isoformat() if isinstance(value, datetime) else value for value in position]
    payload = json.dumps([_fingerprint(request_key), *values], separators=(",", ":"), default=str)
    return base64.urlsafe_b64encode(payload.encode()).decode().rstrip("=")


def decode_page_token(token: str, *, request_key: str, kinds: tuple[type, ...]) -> tuple[Any, ...] | None:
    """Read a token back, as values of ``kinds`` (``str``, ``int``, ``datetime``, ``UUID``); None for the first page.

    Raises:
        InvalidInput: The token is not one of ours, or belongs to a request with other fields.
    """
    if not token:
        return None
    try:
        fingerprint, *values = json.loads(
            base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        )
        kinds = kinds if fingerprint == _fingerprint(request_key) else ()
        return tuple(_READERS[kind](value) for kind, value in zip(kinds, values, strict=True))
    except (ValueError, TypeError, RecursionError):
        raise InvalidInput(
            [
                FieldViolation(
                    "page_token",
                    "take it unchanged from next_page_token of the previous response, with the same other fields",
                )
            ]
        ) from None


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(value)
    return moment


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError(value)
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError(value)
    return value


_READERS: dict[type, Callable[[Any], Any]] = {
    str: _text,
    int: _number,
    datetime: _moment,
    UUID: lambda value: UUID(_text(value)),
}


def _fingerprint(request_key: str) -> str:
    return hashlib.sha256(request_key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
