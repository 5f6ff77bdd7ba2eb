"""Checks of one line of an export on its way back in: every bad field of it is found, and all are reported at once."""

from __future__ import annotations

import json
import math
import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from memsidecar.domain.embedding import DIMENSIONS, Embedding
from memsidecar.domain.errors import FieldViolation, InvalidInput
from memsidecar.domain.limits import MAX_METADATA_DEPTH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LARGEST_NUMBER = 2**62
_UNIT_TOLERANCE = 1e-3
"""How far the length of a vector may be from 1; float32 in JSON keeps it to 1e-6."""
_MOST_VIOLATIONS = 100
"""Of more bad fields in one line nobody would read."""


class LineChecks:
    """Bad fields of one line."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._found: list[FieldViolation] = []

    def add(self, path: str, description: str) -> None:
        """Note a bad field."""
        self._found.append(FieldViolation(f"{self._place}.{path}".rstrip("."), description))

    def raise_if_any(self) -> None:
        """End the import when a field was bad.

        Raises:
            InvalidInput: With the fields noted so far.
        """
        if self._found:
            raise InvalidInput(self._found[:_MOST_VIOLATIONS])


class LineObject:
    """An object of a line. Each method gives a field's value, or a harmless one after noting what is wrong."""

    def __init__(self, checks: LineChecks, values: Mapping[str, Any], path: str) -> None:
        self.checks = checks
        self.values = values
        self.path = path

    def add(self, name: str, description: str) -> None:
        """Note a bad field of this object."""
        self.checks.add(f"{self.path}{name}", description)

    def text(self, name: str, *, most: int, least: int = 0, optional: bool = False) -> str | None:
        """Check a text of ``least`` to ``most`` characters."""
        value = self.values.get(name)
        if value is None and optional:
            return None
        if not isinstance(value, str) or not least <= len(value) <= most:
            self.add(name, f"is not a text of {least} to {most:,} characters")
            return ""
        if "\x00" in value or any(0xD800 <= ord(character) <= 0xDFFF for character in value):
            self.add(name, "holds a NUL character or half of a surrogate pair")
            return ""
        return value

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """Check one of a few texts."""
        value = self.values.get(name)
        if value not in choices:
            self.add(name, f"is not one of {', '.join(choices)}")
            return choices[0]
        return str(value)

    def uuid(self, name: str, *, optional: bool = False) -> str | None:
        """Check a UUID."""
        value = self.values.get(name)
        if value is None and optional:
            return None
        try:
            return str(UUID(value))
        except (ValueError, TypeError, AttributeError):
            self.add(name, "is not a UUID")
            return str(UUID(int=0))

    def moment(self, name: str, *, optional: bool = False) -> str | None:
        """Check a time with its zone, and give it in UTC."""
        value: Any = self.values.get(name)
        if value is None and optional:
            return None
        try:
            parsed = datetime.fromisoformat(value)
            moment = parsed.astimezone(UTC)
        except (ValueError, TypeError, OverflowError):
            parsed = None
        if parsed is None or parsed.tzinfo is None:
            self.add(name, "is not a time such as 2026-03-02T09:00:00+00:00")
            return None
        if not 1970 <= moment.year <= 9999:
            self.add(name, "is outside the years 1970 to 9999")
        return moment.isoformat()

    def number(self, name: str, *, least: int = 0, most: int = LARGEST_NUMBER) -> int:
        """Check a whole number."""
        value = self.values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.add(name, f"is not a whole number from {least:,} to {most:,}")
            return least
        return value

    def flag(self, name: str) -> bool:
        """Check a truth value."""
        value = self.values.get(name)
        if not isinstance(value, bool):
            self.add(name, "is not true or false")
        return value is True

    def metadata(self, name: str, *, most: int) -> dict[str, Any]:
        """Check an object of at most ``most`` bytes as JSON."""
        value = self.values.get(name)
        if not isinstance(value, dict) or _depth(value) > MAX_METADATA_DEPTH:
            self.add(name, f"is not a JSON object of at most {MAX_METADATA_DEPTH} levels")
            return {}
        try:
            encoded = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except ValueError:
            self.add(name, "holds a number that is not finite, or half of a surrogate pair")
            return {}
        if len(encoded) > most or b"\\u0000" in encoded:
            self.add(name, f"is larger than {most:,} bytes as JSON, or holds a NUL character")
            return {}
        return value

    def texts(self, name: str, *, most: int) -> list[str]:
        """Check a list of at most ``most`` texts."""
        value = self.values.get(name)
        if not isinstance(value, list) or not all(
            isinstance(text, str) and "\x00" not in text for text in value
        ):
            self.add(name, "is not a list of texts")
            return []
        if len(value) > most:
            self.add(name, f"has more than {most} texts")
        return value

    def vector(self, model_sha256: str, *, token_count: int = 0, truncated: bool = False) -> Embedding | None:
        """Give the vector if the given model made it."""
        value = self.values.get("vector")
        if value is None or self.values.get("model") != model_sha256:
            return None
        try:
            packed = struct.pack(f"<{DIMENSIONS}f", *value)
            length = math.sqrt(math.fsum(number * number for number in value))
        except (struct.error, TypeError, OverflowError):
            length = 0.0
            packed = b""
        if abs(length - 1) > _UNIT_TOLERANCE:  # false for NaN too
            self.add("vector", f"is not {DIMENSIONS} numbers of length 1 together")
            return None
        if math.isnan(length):
            self.add("vector", "holds a number that is not finite")
            return None
        return Embedding(packed, token_count, truncated)


def _depth(value: Any, level: int = 0) -> int:
    """Measure nesting, no deeper than what is refused anyway."""
    if not isinstance(value, dict | list) or level > MAX_METADATA_DEPTH:
        return level
    inner = value.values() if isinstance(value, dict) else value
    return max((_depth(each, level + 1) for each in inner), default=level + 1)
