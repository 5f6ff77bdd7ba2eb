"""Declared limits of the contract, in one place."""

from __future__ import annotations

from datetime import timedelta

MAX_ID_CHARACTERS = 256
"""Opaque ids: user, conversation, event, source, speaker, request."""
MAX_CONTENT_CHARACTERS = 32_768
"""Content of one turn."""
MAX_QUERY_CHARACTERS = 8_192
"""A recall or search query."""
MAX_METADATA_BYTES = 16_384
"""Metadata as compact JSON in UTF-8."""
MAX_METADATA_DEPTH = 8
"""Levels of nesting in metadata."""
MAX_BATCH_TURNS = 256
"""Turns in one AppendTurns call."""
MAX_BATCH_CONTENT_BYTES = 1_048_576
"""Content of all turns of one AppendTurns call, in UTF-8."""
MAX_FUTURE = timedelta(days=1)
"""How far ahead of the server's clock ``occurred_at`` may be: room for clocks that differ, not for plans."""
DEFAULT_TOP_K = 10
MAX_TOP_K = 200
MAX_NEIGHBOURS = 10
"""Turns of context on each side of a recall hit."""
MAX_CHUNK_NEIGHBOURS = 5
"""Chunks of context on each side of a search hit."""
MAX_SCOPE_VALUES = 64
"""Conversations or speakers listed in one scope."""
MAX_EXCLUDED_TURNS = 1_000
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000
MAX_DOCUMENT_KEY_CHARACTERS = 1_024
MAX_TITLE_CHARACTERS = 512
MAX_UNARY_DOCUMENT_BYTES = 4 * 1_048_576
"""A document in one message; larger ones are streamed."""
MAX_DOCUMENT_BYTES = 32 * 1_048_576
MAX_DOCUMENT_CHARACTERS = 32 * 1_048_576
"""Text of a document once it is read, which a small file may hold much of."""
MAX_JOB_DOCUMENTS = 10_000
"""Documents in one job."""
MAX_JOB_BYTES = 1_073_741_824
"""Content of all documents of one job."""
MAX_SCOPE_DOCUMENTS = 256
"""Documents listed in one scope."""
MAX_LANGUAGE_CHARACTERS = 63
"""Length of a name in Postgres, which names text search configurations."""
DEFAULT_JOB_PAGE_SIZE = 20
MAX_JOB_PAGE_SIZE = 200
MAX_MEMORY_METADATA_BYTES = 65_536
SOFT_MEMORY_BYTES = 16_384
"""Size of a user memory from which compaction is suggested: about 4,000 words of a prompt."""
HARD_MEMORY_BYTES = 65_536
"""Size of a user memory that is not exceeded."""
MAX_MEMORY_CHARACTERS = 1_048_576
"""A memory text that is looked at; what passes ``HARD_MEMORY_BYTES`` is refused with the sizes."""
