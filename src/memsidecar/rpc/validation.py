"""Checks requests at the edge: every bad field is found before anything is done, and all are reported at once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from google.protobuf.json_format import MessageToDict

from memsidecar.domain.errors import FieldViolation, InvalidInput
from memsidecar.domain.limits import MAX_ID_CHARACTERS, MAX_METADATA_BYTES, MAX_METADATA_DEPTH, MAX_PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.struct_pb2 import Struct
    from google.protobuf.timestamp_pb2 import Timestamp

E = TypeVar("E")

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_SECONDS = 253_402_300_799
"""Last second of the year 9999, the end of ``google.protobuf.Timestamp``."""


class Violations:
    """Collects bad fields. Each check gives the converted value, or a harmless one after noting what is wrong."""

    def __init__(self) -> None:
        self._found: list[FieldViolation] = []

    def add(self, field: str, description: str) -> None:
        """Note a bad field."""
        self._found.append(FieldViolation(field, description))

    def raise_if_any(self) -> None:
        """End the request when a field was bad.

        Raises:
            InvalidInput: With every field noted so far.
        """
        if self._found:
            raise InvalidInput(self._found)

    def text(self, field: str, value: str, *, most: int, least: int = 0) -> str:
        """Check a text of ``least`` to ``most`` characters; 0 allows it to be left out."""
        if "\x00" in value:
            self.add(field, "must not contain the NUL character: remove U+0000")
        if least and not value.strip():
            self.add(field, f"is required: give {least} to {most:,} characters that are not all blank")
        elif len(value) > most:
            self.add(field, f"has {len(value):,} characters: shorten it to at most {most:,}")
        return value

    def identifier(self, field: str, value: str, *, required: bool = True) -> str:
        """Check an opaque id of 1 to 256 characters."""
        return self.text(field, value, most=MAX_ID_CHARACTERS, least=1 if required else 0)

    def uuid(self, field: str, value: str) -> UUID:
        """Check a required UUID in canonical form."""
        parsed = self.optional_uuid(field, value)
        if not value:
            self.add(field, "is required: give a UUID such as 018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071")
        return parsed or UUID(int=0)

    def optional_uuid(self, field: str, value: str) -> UUID | None:
        """Check a UUID in canonical form that may be left out."""
        if not value:
            return None
        try:
            parsed = UUID(value)
        except ValueError:
            parsed = None
        if parsed is None or str(parsed) != value.lower():
            self.add(field, "is not a UUID: write it as 018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071")
            return None
        if parsed.int == 0:
            self.add(field, "must not be the nil UUID")
        return parsed

    def uuids(self, field: str, values: Iterable[str], *, most: int) -> tuple[UUID, ...]:
        """Check a list of at most ``most`` UUIDs."""
        values = list(values)
        self.count(field, len(values), most=most)
        return tuple(self.uuid(f"{field}[{index}]", value) for index, value in enumerate(values[:most]))

    def identifiers(self, field: str, values: Iterable[str], *, most: int) -> tuple[str, ...]:
        """Check a list of at most ``most`` opaque ids."""
        values = list(values)
        self.count(field, len(values), most=most)
        return tuple(self.identifier(f"{field}[{index}]", value) for index, value in enumerate(values[:most]))

    def count(self, field: str, value: int, *, most: int, least: int = 0) -> None:
        """Check how many values a list has."""
        if not least <= value <= most:
            self.add(field, f"has {value:,} values: give {least} to {most:,}")

    def integer(self, field: str, value: int, *, least: int, most: int, default: int | None = None) -> int:
        """Check a number; 0 stands for ``default`` where there is one."""
        if value == 0 and default is not None:
            return default
        if not least <= value <= most:
            self.add(field, f"is {value}: give {least:,} to {most:,}")
            return default if default is not None else least
        return value

    def page_size(self, value: int, *, default: int, most: int = MAX_PAGE_SIZE) -> int:
        """Check ``page_size``."""
        return self.integer("page_size", value, least=1, most=most, default=default)

    def number(self, field: str, value: float | None, *, least: float, most: float) -> float | None:
        """Check an optional number; NaN is never right."""
        if value is not None and not least <= value <= most:
            self.add(field, f"is {value}: give {least:g} to {most:g}")
            return None
        return value

    def time(
        self, field: str, value: Timestamp | None, *, not_after: datetime | None = None
    ) -> datetime | None:
        """Check an optional time between 1970 and 9999."""
        if value is None:
            return None
        if not (0 <= value.seconds <= _LATEST_SECONDS and 0 <= value.nanos <= 999_999_999):
            self.add(field, "is outside the years 1970 to 9999, or its nanos are not 0 to 999999999")
            return None
        moment = _EARLIEST + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)
        if not_after is not None and moment > not_after:
            self.add(
                field, f"lies in the future: give a time until {not_after.isoformat(timespec='seconds')}"
            )
        return moment

    def duration(
        self, field: str, value: Duration | None, *, least: timedelta, most: timedelta
    ) -> timedelta | None:
        """Check an optional duration."""
        if value is None:
            return None
        seconds = value.seconds + value.nanos / 1e9
        if not least.total_seconds() <= seconds <= most.total_seconds():
            self.add(
                field,
                f"is {seconds:g} seconds: give {least.total_seconds():g} to {most.total_seconds():g} seconds",
            )
            return None
        return timedelta(seconds=seconds)

    def metadata(self, field: str, value: Struct, *, most: int = MAX_METADATA_BYTES) -> dict[str, Any]:
        """Check an object: size as JSON, depth, finite numbers, no NUL."""
        depth = _depth(value.fields.values())
        if depth > MAX_METADATA_DEPTH:
            self.add(field, f"is nested deeper than {MAX_METADATA_DEPTH} levels: flatten it")
            return {}
        try:
            content: dict[str, Any] = MessageToDict(value)
            encoded = json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
        except ValueError:
            self.add(field, "holds a number that is not finite: JSON has no NaN or Infinity")
            return {}
        if b"\\u0000" in encoded:
            self.add(field, "must not contain the NUL character: remove U+0000")
        if len(encoded) > most:
            self.add(field, f"is {len(encoded):,} bytes as JSON: shorten it to at most {most:,}")
        return content

    def choice(
        self, field: str, value: int, choices: Mapping[Any, E], *, default: E | None = None
    ) -> E | None:
        """Check an enum value; 0 stands for ``default``, and is refused where there is none."""
        if value == 0 and default is not None:
            return default
        if value not in choices:
            named = ", ".join(f"{choice} ({_plain(choices[choice])})" for choice in sorted(choices))
            self.add(field, f"is {value}: give one of {named}")
            return default
        return choices[value]


def _plain(choice: object) -> object:
    return choice.value if isinstance(choice, Enum) else choice


def _depth(values: Iterable[Any], level: int = 1) -> int:
    """Measure nesting without recursion deeper than what is refused anyway."""
    if level > MAX_METADATA_DEPTH:
        return level
    deepest = level
    for value in values:
        kind = value.WhichOneof("kind")
        if kind == "struct_value":
            deepest = max(deepest, _depth(value.struct_value.fields.values(), level + 1))
        elif kind == "list_value":
            deepest = max(deepest, _depth(value.list_value.values, level + 1))
    return deepest
