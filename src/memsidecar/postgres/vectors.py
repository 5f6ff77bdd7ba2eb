"""Vectors on the wire between asyncpg and pgvector."""

from __future__ import annotations

import struct
import sys
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

_HEADER = struct.Struct(">HH")


def encode_vector(vector: bytes) -> bytes:
    """Turn little-endian float32 values into pgvector's binary form.

    That form (``vector_recv`` in pgvector's source) is: uint16 dimensions, uint16 unused, then big-endian float32.
    """
    values = array("f", vector)
    if sys.byteorder == "little":
        values.byteswap()
    return _HEADER.pack(len(values), 0) + values.tobytes()


def decode_vector(data: bytes) -> bytes:
    """Turn pgvector's binary form into little-endian float32 values."""
    values = array("f", data[_HEADER.size :])
    if sys.byteorder == "little":
        values.byteswap()
    return values.tobytes()


async def register_vector_codec(connection: asyncpg.Connection) -> None:
    """Teach one connection to take and give vectors as bytes, wherever the extension's schema is."""
    schema = await connection.fetchval(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
    )
    if schema is not None:
        await connection.set_type_codec(
            "vector", schema=schema, encoder=encode_vector, decoder=decode_vector, format="binary"
        )
