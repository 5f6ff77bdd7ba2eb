"""How much a tenant may do and keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of a tenant; 0 means the server's default."""

    max_turns: int = 0
    """Rows of turns, edits included, deletions not."""
    max_document_bytes: int = 0
    """Text of stored documents, and documents as sent that are still waiting."""
    calls_per_second: int = 0
    """Averaged over ten seconds, on each server."""

    def with_defaults(self, defaults: Quota) -> Quota:
        """Fill in what is 0; what is 0 in the defaults too is without a limit."""
        return Quota(
            self.max_turns or defaults.max_turns,
            self.max_document_bytes or defaults.max_document_bytes,
            self.calls_per_second or defaults.calls_per_second,
        )


UNLIMITED = Quota()
