"""The context of a call, as handlers are given it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeAlias

    import grpc

    ServicerContext: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    """gRPC's own class is generic to type checkers only."""
