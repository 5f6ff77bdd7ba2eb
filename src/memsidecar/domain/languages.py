"""Languages of word search."""

from __future__ import annotations

LANGUAGES = frozenset(
    {
        "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish", "french", "german",
        "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian",
        "portuguese", "romanian", "russian", "serbian", "simple", "spanish", "swedish", "tamil", "turkish", "yiddish",
    }
)  # fmt: skip
"""Text search configurations that every Postgres from 16 on has; ``simple`` takes words as they are."""
