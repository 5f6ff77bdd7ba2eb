"""Lines of an export from anywhere: taken or refused, never anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsidecar.domain.errors import FieldViolation, InvalidInput
from memsidecar.domain.export_format import end_line, header_line, read_line

MODEL = "a" * 64
ID = "018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071"
AT = "2026-03-02T09:00:00+00:00"
ROW: dict[str, Any] = {
    "id": ID, "turn_id": ID, "agent_id": ID, "user_id": "ann", "conversation_id": "lunch", "role": "user",
    "speaker_id": "ann", "speaker_name": "Ann", "action": "said", "source": "channel", "event_id": "1",
    "target_source": None, "target_event_id": None, "content": "hello", "metadata": {}, "language": "english",
    "token_count": 3, "truncated": False, "occurred_at": AT, "created_at": AT, "changed_at": None, "placed_from": None,
    "superseded_at": None, "model": MODEL, "vector": [1.0] + [0.0] * 383,
}  # fmt: skip
LINES: dict[str, dict[str, Any]] = {
    "turn": {"kind": "turn", "rows": [ROW]},
    "memory_revision": {
        "kind": "memory_revision", "user_id": "ann", "agent_id": ID, "revision": 1, "memory": "likes tea",
        "metadata": {"a": [1]}, "updated_at": AT, "updated_by": "bot",
    },
    "archived_passage": {
        "kind": "archived_passage", "id": ID, "user_id": "ann", "agent_id": ID, "revision": 1, "passage": "old",
        "archived_at": AT, "model": MODEL, "vector": ROW["vector"],
    },
    "document": {
        "kind": "document", "id": ID, "document_key": "a.md", "user_id": "ann", "is_global": False,
        "document_type": "markdown", "title": "A", "content": "# A", "content_sha256": "b" * 64,
        "recipe_sha256": "c" * 64, "metadata": {}, "language": "english", "chunk_count": 1, "job_id": ID,
        "submitted_at": AT, "occurred_at": AT, "created_at": AT, "updated_at": AT,
    },
    "chunk": {
        "kind": "chunk", "id": ID, "document_id": ID, "chunk_index": 0, "start_char": 0, "end_char": 3,
        "heading_path": ["A"], "page_number": 0, "token_count": 3, "model": MODEL, "vector": ROW["vector"],
    },
    "ingestion": {"kind": "ingestion"},
    "end": {"kind": "end"},
}  # fmt: skip
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\x00", "\ud800", ID, AT, "said", "edited", "deleted"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", LINES)
def test_a_line_as_it_was_written_is_taken(kind: str) -> None:
    line = read_line(1, json.dumps(LINES[kind]).encode(), model_sha256=MODEL)
    assert line.kind == kind
    assert all(vector is not None for vector in line.vectors)


def test_the_first_and_the_last_line_are_taken() -> None:
    header = read_line(1, header_line("ann", model_sha256=MODEL, with_vectors=True), model_sha256=MODEL)
    assert header.values == {"user_id": "ann"}
    assert read_line(2, end_line({"turn": 1}), model_sha256=MODEL).kind == "end"


@given(data=st.data(), kind=st.sampled_from(sorted(LINES)))
def test_any_change_of_a_line_is_taken_or_refused(data: st.DataObject, kind: str) -> None:
    line = json.loads(json.dumps(LINES[kind]))
    target = line["rows"][0] if kind == "turn" and data.draw(st.booleans()) else line
    for name in data.draw(st.lists(st.sampled_from(sorted(target)), max_size=3)):
        if data.draw(st.booleans()):
            target[name] = data.draw(ANYTHING)
        else:
            target.pop(name, None)
    violations: tuple[FieldViolation, ...] = ()
    try:
        read_line(7, json.dumps(line).encode("utf-8", "surrogatepass"), model_sha256=MODEL)
    except InvalidInput as refused:
        violations = refused.violations
    assert all(violation.field.startswith("lines[7]") for violation in violations)


@given(line=st.binary(max_size=200))
def test_bytes_from_anywhere_are_taken_or_refused(line: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_line(1, line, model_sha256=MODEL)


@given(rows=st.lists(st.sampled_from(["said", "edited", "deleted", "other"]), min_size=2, max_size=4))
def test_rows_must_be_of_one_turn_that_shows_one_state(rows: list[str]) -> None:
    """Copies of one row with other actions never fit together: their ids and events are the same."""
    line = {"kind": "turn", "rows": [{**ROW, "action": action} for action in rows]}
    with pytest.raises(InvalidInput):
        read_line(1, json.dumps(line).encode(), model_sha256=MODEL)
