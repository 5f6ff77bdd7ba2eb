"""What a server is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which model made a vector."""

    name: str
    precision: str
    sha256: str
    dimensions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """What a server is and what the credential may do on it."""

    version: str
    model: ModelIdentity
    postgres_version: str
    pgvector_version: str
    schema_revision: str
    tenant_id: str
    """Empty for an operator."""
    rights: tuple[str, ...]
    """``append``, ``recall``, ``documents``, ``admin``, ``operator``."""
