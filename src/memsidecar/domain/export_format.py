"""The lines of an export, and the checks they go through on the way back in.

An export is JSON Lines: one ``export`` line, then one line per turn (with all its rows), memory revision, archived
passage, document, passage of a document and document held by an ingestion job, and an ``end`` line with how many there
were. Fields are named as the columns they come from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from memsidecar.domain.export_line_checks import LineChecks, LineObject
from memsidecar.domain.languages import LANGUAGES
from memsidecar.domain.limits import (
    HARD_MEMORY_BYTES,
    MAX_CONTENT_CHARACTERS,
    MAX_DOCUMENT_KEY_CHARACTERS,
    MAX_ID_CHARACTERS,
    MAX_MEMORY_METADATA_BYTES,
    MAX_METADATA_BYTES,
    MAX_TITLE_CHARACTERS,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from memsidecar.domain.embedding import Embedding

FORMAT_VERSION = 1
MAX_LINE_BYTES = 96 * 1_048_576
"""A document of 32 MiB, written as JSON, at three bytes each."""
_MOST_ROWS_OF_A_TURN = 10_000
_MOST_CHUNKS = 1_000_000
_ROLES = ("user", "assistant", "system", "tool")
_ACTIONS = ("said", "edited", "deleted")
_DOCUMENT_TYPES = ("text", "markdown", "html", "pdf", "code")


@dataclass(frozen=True, slots=True)
class ExportLine:
    """A line that was checked."""

    kind: str
    values: Mapping[str, Any] = field(repr=False)
    """Ready to be written as JSON; of a turn, one key ``rows``."""
    vectors: Sequence[Embedding | None] = field(default=(), repr=False)
    """Of each row of a turn, or the one of the line; None where there is none or another model made it."""


def header_line(user_id: str, *, model_sha256: str, with_vectors: bool) -> bytes:
    """Write the first line of an export."""
    return _line(
        kind="export",
        version=FORMAT_VERSION,
        user_id=user_id,
        exported_at=datetime.now(UTC).isoformat(),
        model=model_sha256,
        vectors=with_vectors,
    )


def end_line(counts: Mapping[str, int]) -> bytes:
    """Write the last line of an export, which shows that it is whole."""
    return _line(kind="end", lines=dict(counts))


def _line(**values: Any) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def read_line(number: int, line: bytes, *, model_sha256: str) -> ExportLine:
    """Check a line.

    Args:
        number: Its position in the export, from 1.
        line: The line.
        model_sha256: Vectors of other models are left out.

    Raises:
        InvalidInput: With every bad field of the line.
    """
    checks = LineChecks(f"lines[{number}]")
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        checks.add("", "is not a JSON object: send the lines of an export unchanged")
        checks.raise_if_any()
    kind = values.get("kind")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        checks.add("kind", f"is not one of {', '.join(sorted(_READERS))}")
        checks.raise_if_any()
        raise AssertionError(kind)
    checked = reader(LineObject(checks, values, ""), model_sha256)
    checks.raise_if_any()
    return checked


def _read_turn(line: LineObject, model_sha256: str) -> ExportLine:
    rows = line.values.get("rows")
    if not isinstance(rows, list) or not 1 <= len(rows) <= _MOST_ROWS_OF_A_TURN:
        line.add("rows", f"is not a list of 1 to {_MOST_ROWS_OF_A_TURN:,} rows")
        return ExportLine("turn", {"rows": []})
    read, vectors = [], []
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            line.add(f"rows[{index}]", "is not a JSON object")
            continue
        checked = LineObject(line.checks, row, f"rows[{index}].")
        values = _read_row(checked)
        read.append(values)
        vectors.append(
            checked.vector(model_sha256, token_count=values["token_count"], truncated=values["truncated"])
        )
    _check_turn(line, read)
    return ExportLine("turn", {"rows": read}, vectors)


def _read_row(row: LineObject) -> dict[str, Any]:
    values = {
        "id": row.uuid("id"),
        "turn_id": row.uuid("turn_id"),
        "agent_id": row.uuid("agent_id"),
        "user_id": row.text("user_id", least=1, most=MAX_ID_CHARACTERS),
        "conversation_id": row.text("conversation_id", least=1, most=MAX_ID_CHARACTERS),
        "role": row.choice("role", _ROLES),
        "speaker_id": row.text("speaker_id", most=MAX_ID_CHARACTERS),
        "speaker_name": row.text("speaker_name", most=MAX_ID_CHARACTERS),
        "action": row.choice("action", _ACTIONS),
        "source": row.text("source", least=1, most=MAX_ID_CHARACTERS, optional=True),
        "event_id": row.text("event_id", least=1, most=MAX_ID_CHARACTERS, optional=True),
        "target_source": row.text("target_source", least=1, most=MAX_ID_CHARACTERS, optional=True),
        "target_event_id": row.text("target_event_id", least=1, most=MAX_ID_CHARACTERS, optional=True),
        "content": row.text("content", most=MAX_CONTENT_CHARACTERS),
        "metadata": row.metadata("metadata", most=MAX_METADATA_BYTES),
        "language": row.choice("language", sorted(LANGUAGES)),
        "token_count": row.number("token_count", most=MAX_CONTENT_CHARACTERS * 4),
        "truncated": row.flag("truncated"),
        "occurred_at": row.moment("occurred_at"),
        "created_at": row.moment("created_at"),
        "changed_at": row.moment("changed_at", optional=True),
        "placed_from": row.uuid("placed_from", optional=True),
        "superseded_at": row.moment("superseded_at", optional=True),
    }
    said, deleted = values["action"] == "said", values["action"] == "deleted"
    if (values["source"] is None) != (values["event_id"] is None):
        row.add("event_id", "and source must be given together")
    if said == (values["target_event_id"] is not None) or said == (values["target_source"] is not None):
        row.add("target_event_id", "must be given for an edit or a deletion, and for those alone")
    if said == (values["changed_at"] is not None):
        row.add("changed_at", "must be given for an edit or a deletion, and for those alone")
    if said and values["turn_id"] != values["id"]:
        row.add("turn_id", "must be the row's own id, as it is not an edit or a deletion")
    if deleted != (values["content"] == ""):
        row.add("content", "must be empty for a deletion, and for a deletion alone")
    if deleted and values["superseded_at"] is None:
        row.add("superseded_at", "must be given: a deletion is never what is seen of a turn")
    if values["placed_from"] is not None and (values["action"] != "edited" or values["event_id"] is not None):
        row.add("placed_from", "must be empty unless the row is an edit without an event of its own")
    return values


def _check_turn(line: LineObject, rows: Sequence[Mapping[str, Any]]) -> None:
    """Check what rows are to each other: all of one turn, of which at most one is seen."""
    turns = {
        (
            row["agent_id"],
            row["user_id"],
            row["target_source"] or row["source"],
            row["target_event_id"] or row["event_id"],
        )
        for row in rows
    }
    events = [(row["source"], row["event_id"]) for row in rows if row["event_id"] is not None]
    if len(turns) != 1 or (len(rows) > 1 and any(row["target_event_id"] is None for row in rows[1:])):
        line.add("rows", "are not the rows of one turn")
    if len(set(events)) != len(events) or len({row["id"] for row in rows}) != len(rows):
        line.add("rows", "have the same id or event twice")
    if sum(row["superseded_at"] is None for row in rows) > 1:
        line.add("rows", "have more than one that is not superseded")
    if any(row["action"] == "deleted" for row in rows) and any(row["superseded_at"] is None for row in rows):
        line.add("rows", "show something of a turn that was deleted")


def _read_revision(line: LineObject, _model_sha256: str) -> ExportLine:
    values = {
        "user_id": line.text("user_id", least=1, most=MAX_ID_CHARACTERS),
        "agent_id": line.uuid("agent_id"),
        "revision": line.number("revision", least=1),
        "memory": line.text("memory", most=HARD_MEMORY_BYTES),
        "metadata": line.metadata("metadata", most=MAX_MEMORY_METADATA_BYTES),
        "updated_at": line.moment("updated_at"),
        "updated_by": line.text("updated_by", most=MAX_ID_CHARACTERS),
    }
    return ExportLine("memory_revision", values)


def _read_passage(line: LineObject, model_sha256: str) -> ExportLine:
    values = {
        "user_id": line.text("user_id", least=1, most=MAX_ID_CHARACTERS),
        "agent_id": line.uuid("agent_id"),
        "id": line.uuid("id"),
        "revision": line.number("revision"),
        "passage": line.text("passage", least=1, most=HARD_MEMORY_BYTES),
        "archived_at": line.moment("archived_at"),
    }
    return ExportLine("archived_passage", values, [line.vector(model_sha256)])


def _read_document(line: LineObject, _model_sha256: str) -> ExportLine:
    values = {
        "id": line.uuid("id"),
        "document_key": line.text("document_key", least=1, most=MAX_DOCUMENT_KEY_CHARACTERS),
        "user_id": line.text("user_id", least=1, most=MAX_ID_CHARACTERS),
        "is_global": line.flag("is_global"),
        "document_type": line.choice("document_type", _DOCUMENT_TYPES),
        "title": line.text("title", most=MAX_DOCUMENT_KEY_CHARACTERS + MAX_TITLE_CHARACTERS),
        "content": line.text("content", most=MAX_LINE_BYTES),
        "content_sha256": _digest(line, "content_sha256"),
        "recipe_sha256": _digest(line, "recipe_sha256"),
        "metadata": line.metadata("metadata", most=MAX_METADATA_BYTES),
        "language": line.choice("language", sorted(LANGUAGES)),
        "chunk_count": line.number("chunk_count", most=_MOST_CHUNKS),
        "job_id": line.uuid("job_id"),
        "submitted_at": line.moment("submitted_at"),
        "occurred_at": line.moment("occurred_at"),
        "created_at": line.moment("created_at"),
        "updated_at": line.moment("updated_at"),
    }
    return ExportLine("document", values)


def _read_chunk(line: LineObject, model_sha256: str) -> ExportLine:
    token_count = line.number("token_count", most=1_000_000)
    values = {
        "id": line.uuid("id"),
        "document_id": line.uuid("document_id"),
        "chunk_index": line.number("chunk_index", most=_MOST_CHUNKS),
        "start_char": line.number("start_char", most=MAX_LINE_BYTES),
        "end_char": line.number("end_char", least=1, most=MAX_LINE_BYTES),
        "heading_path": line.texts("heading_path", most=100),
        "page_number": line.number("page_number", most=10_000_000),
        "token_count": token_count,
    }
    vector = line.vector(model_sha256, token_count=token_count)
    return ExportLine("chunk", values, [vector])


def _digest(line: LineObject, name: str) -> str | None:
    value = line.text(name, least=64, most=64)
    if value and set(value) - set("0123456789abcdef"):
        line.add(name, "is not 64 hexadecimal digits")
    return value


def _read_header(line: LineObject, _model_sha256: str) -> ExportLine:
    if line.values.get("version") != FORMAT_VERSION:
        line.add("version", f"is not {FORMAT_VERSION}: export again with this version of memsidecar")
    return ExportLine("export", {"user_id": line.text("user_id", least=1, most=MAX_ID_CHARACTERS)})


def _read_nothing(line: LineObject, _model_sha256: str) -> ExportLine:
    return ExportLine(str(line.values["kind"]), {})


_READERS = {
    "export": _read_header,
    "turn": _read_turn,
    "memory_revision": _read_revision,
    "archived_passage": _read_passage,
    "document": _read_document,
    "chunk": _read_chunk,
    "ingestion": _read_nothing,
    "end": _read_nothing,
}
