"""Reflection that also knows methods by their full names, as ghz asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pool

if TYPE_CHECKING:
    from google.protobuf.descriptor import FileDescriptor


class MethodAwarePool:
    """The default descriptor pool, which knows services but by itself not ``package.Service.Method``."""

    def __init__(self) -> None:
        self._pool: Any = descriptor_pool.Default()

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - the pool's name for it
        """Find the file of a symbol; that of a method is its service's.

        Raises:
            KeyError: There is none.
        """
        try:
            file: FileDescriptor = self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            file = self._pool.FindServiceByName(service).methods_by_name[method].containing_service.file
        return file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)
