"""Identifiers made by the server."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

ALL_AGENTS = UUID(int=0)
"""Stands in keys for "the memory all agents share", where a key column cannot be empty."""


def new_uuid7() -> UUID:
    """Make a version 7 UUID (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then 74 random bits.

    New keys land at the right edge of their index, which keeps inserts cheap.
    """
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76
    value |= secrets.randbits(12) << 64
    value |= 0b10 << 62
    value |= secrets.randbits(62)
    return UUID(int=value)
