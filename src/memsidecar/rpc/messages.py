"""Conversions that several services share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from memsidecar.domain.turns import TimeRange
from memsidecar.v1 import common_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from memsidecar.domain.embedding import ModelIdentity
    from memsidecar.rpc.validation import Violations


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Turn a moment into its message; None stays None, which leaves the field unset."""
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def struct(values: Mapping[str, Any]) -> Struct | None:
    """Turn an object into its message; an empty one stays unset."""
    if not values:
        return None
    message = Struct()
    message.update(values)
    return message


def model_message(model: ModelIdentity) -> common_pb2.ModelIdentity:
    """Turn a model identity into its message."""
    return common_pb2.ModelIdentity(
        name=model.name, precision=model.precision, sha256=model.sha256, dimensions=model.dimensions
    )


def time_range(violations: Violations, field: str, message: common_pb2.TimeRange) -> TimeRange:
    """Check a span of time: each end, and that it does not end before it starts."""
    start = violations.time(
        f"{field}.start_time", message.start_time if message.HasField("start_time") else None
    )
    end = violations.time(f"{field}.end_time", message.end_time if message.HasField("end_time") else None)
    if start is not None and end is not None and end <= start:
        violations.add(field, "ends before it starts: make end_time later than start_time")
    return TimeRange(start, end)
