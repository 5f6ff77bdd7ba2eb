"""What is known about a user, as a client sees it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class MemoryWriteMode(StrEnum):
    """How a new text meets the old one."""

    REPLACE = "replace"
    APPEND = "append"
    """As the last paragraph."""


class MetadataWriteMode(StrEnum):
    """How a new object meets the old one."""

    MERGE = "merge"
    """JSON merge patch (RFC 7396): None removes a member."""
    REPLACE = "replace"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserMemory:
    """The memory of one user, in one revision."""

    user_id: str
    agent_id: str
    """Empty for the memory that all agents share."""
    memory: str
    metadata: Mapping[str, Any]
    revision: int
    updated_at: datetime
    updated_by: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserMemoryWrite:
    """What became of a write."""

    memory: UserMemory
    compaction_suggested: bool
    """It has grown past the soft limit and should be rewritten shorter."""
    archived_paragraphs: int
    repeated: bool
    """The same request was seen before: nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedParagraph:
    """A paragraph that outgrew a memory."""

    text: str
    revision: int
    archived_at: datetime
    similarity: float
