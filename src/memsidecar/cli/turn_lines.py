"""Turns as lines of JSON: the form that ``memsidecar import`` reads."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.struct_pb2 import Struct

from memsidecar.client import Event, NewTurn, Role, Speaker, TurnAction

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import StrEnum

E = TypeVar("E", bound="StrEnum")

_TEXT_FIELDS = ("agent_id", "user_id", "conversation_id", "content", "request_id")
_FIELDS = frozenset(
    {*_TEXT_FIELDS, "role", "speaker", "occurred_at", "metadata", "event", "action", "target"}
)


def read_turn(line: str, defaults: Mapping[str, str] | None = None) -> NewTurn:
    """Read one line: an object with the fields of ``NewTurn`` in the contract.

    ``role`` and ``action`` are lower-case words, ``occurred_at`` is RFC 3339 with a time zone, ``speaker``,
    ``event`` and ``target`` are objects.

    Args:
        line: The JSON.
        defaults: Values of text fields that the line leaves out.

    Raises:
        ValueError: It is not such an object; the message says what is wrong with it.
    """
    fields = _object("the line", _parsed(line))
    unknown = sorted(fields.keys() - _FIELDS)
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}: the fields are {', '.join(sorted(_FIELDS))}")
    texts = {name: _text(name, fields.get(name, (defaults or {}).get(name, ""))) for name in _TEXT_FIELDS}
    speaker = _part("speaker", fields, ("speaker_id", "display_name"))
    event = _part("event", fields, ("source", "event_id"))
    target = _part("target", fields, ("source", "event_id"))
    return NewTurn(
        agent_id=texts["agent_id"],
        user_id=texts["user_id"],
        conversation_id=texts["conversation_id"],
        content=texts["content"],
        request_id=texts["request_id"],
        role=_word("role", fields.get("role", "user"), Role),
        action=_word("action", fields.get("action", "said"), TurnAction),
        speaker=None if speaker is None else Speaker(*speaker),
        event=None if event is None else Event(*event),
        target=None if target is None else Event(*target),
        occurred_at=_moment(fields.get("occurred_at")),
        metadata=_metadata(fields.get("metadata", {})),
    )


def _parsed(line: str) -> Any:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("it holds bytes that are not UTF-8, or half of a surrogate pair") from error
    return value


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object")  # noqa: TRY004 - bad data, not a bad call
    return value


def _metadata(value: Any) -> dict[str, Any]:
    metadata = _object("metadata", value)
    try:
        Struct().update(metadata)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"metadata cannot be sent: {error}") from error
    return metadata


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a text")  # noqa: TRY004 - bad data, not a bad call
    return value


def _part(name: str, fields: Mapping[str, Any], names: tuple[str, str]) -> tuple[str, str] | None:
    if fields.get(name) is None:
        return None
    value = _object(name, fields[name])
    unknown = sorted(value.keys() - set(names))
    if unknown:
        raise ValueError(f"unknown field {name}.{unknown[0]}: the fields are {', '.join(names)}")
    first, second = (_text(f"{name}.{part}", value.get(part, "")) for part in names)
    return first, second


def _word(name: str, value: Any, choices: type[E]) -> E:
    if value not in list(choices):
        raise ValueError(f"{name} is {value!r}: give one of {', '.join(choices)}")
    return choices(value)


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(_text("occurred_at", value))
    except ValueError as error:
        raise ValueError(f"occurred_at is {value!r}: write it like 2025-09-30T07:48:00Z") from error
    if moment.tzinfo is None:
        raise ValueError(f"occurred_at is {value!r}: it has no time zone, write it like 2025-09-30T07:48:00Z")
    return moment
