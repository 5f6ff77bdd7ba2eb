"""A call, described once for both clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """One call: where it goes, what is sent, how the answer is read."""

    service: type[Any]
    """Generated stub of the service."""
    method: str
    request: Message | Callable[[], Iterator[Message]]
    """The message, or what makes the messages of a stream anew for each attempt."""
    read: Callable[[Any], R]
    safe_to_repeat: bool = True
    """Whether making it twice does the same as making it once."""

    def payload(self) -> Message | Iterator[Message]:
        """Give what an attempt sends."""
        return self.request() if callable(self.request) else self.request


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing."""

    items: tuple[T, ...]
    next_page_token: str
    """Empty at the end."""
