"""Pages of a listing and the opaque tokens between them."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from memsidecar.domain.errors import FieldViolation, InvalidInput

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page and the position after it."""

    items: tuple[T, ...]
    next_position: tuple[Any, ...] | None
    """JSON-able values that the next page starts after; None at the end."""


def encode_page_token(position: tuple[Any, ...] | None, *, request_key: str) -> str:
    """Make the opaque token for the page after ``position``; empty at the end.

    Args:
        position: JSON-able values.
        request_key: Text that stands for the other fields of the request; a token is refused with other fields.
    """
    if position is None:
        return ""
    payload = json.dumps([_fingerprint(request_key), *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(payload.encode()).decode().rstrip("=")


def decode_page_token(token: str, *, request_key: str, length: int) -> tuple[Any, ...] | None:
    """Read a token back; None for the first page.

    Raises:
        InvalidInput: The token is not one of ours, or belongs to a request with other fields.
    """
    if not token:
        return None
    try:
        values = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except ValueError:
        values = None
    if not isinstance(values, list) or len(values) != length + 1 or values[0] != _fingerprint(request_key):
        raise InvalidInput(
            [
                FieldViolation(
                    "page_token",
                    "take it unchanged from next_page_token of the previous response, with the same other fields",
                )
            ]
        )
    return tuple(values[1:])


def _fingerprint(request_key: str) -> str:
    return hashlib.sha256(request_key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
