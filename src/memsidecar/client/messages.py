"""Conversions between plain values and messages that several services share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from memsidecar.client.server import ModelIdentity
from memsidecar.client.turns import ScorePart, Timings
from memsidecar.v1 import common_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from google.protobuf.message import Message

    from memsidecar.client.turns import TimeRange


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Turn a moment into its message; None stays unset.

    Raises:
        ValueError: The moment has no time zone, so that nobody can know when it was.
    """
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone: write datetime(..., tzinfo=UTC), or use astimezone()")
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def duration(span: timedelta | None) -> Duration | None:
    """Turn a span into its message; None stays unset."""
    if span is None:
        return None
    message = Duration()
    message.FromTimedelta(span)
    return message


def struct(values: Mapping[str, Any] | None) -> Struct | None:
    """Turn an object into its message; None stays unset."""
    if values is None:
        return None
    message = Struct()
    message.update(values)
    return message


def time_range(span: TimeRange | None) -> common_pb2.TimeRange | None:
    """Turn a span of time into its message; None stays unset."""
    if span is None:
        return None
    return common_pb2.TimeRange(start_time=timestamp(span.start), end_time=timestamp(span.end))


def read_moment(message: Timestamp) -> datetime:
    """Read a moment, in UTC."""
    return message.ToDatetime(UTC)


def read_optional_moment(message: Message, name: str) -> datetime | None:
    """Read a field that holds a moment, in UTC; None where it is unset."""
    return read_moment(getattr(message, name)) if message.HasField(name) else None


def read_struct(message: Struct) -> dict[str, Any]:
    """Read an object."""
    return dict(MessageToDict(message))


def read_model(message: common_pb2.ModelIdentity) -> ModelIdentity:
    """Read a model identity."""
    return ModelIdentity(
        name=message.name, precision=message.precision, sha256=message.sha256, dimensions=message.dimensions
    )


def read_part(message: common_pb2.ScorePart) -> ScorePart:
    """Read a part of a score."""
    return ScorePart(
        name=message.name,
        raw=message.raw,
        normalized=message.normalized,
        weight=message.weight,
        rank=message.rank,
    )


def read_timings(message: Message) -> Timings | None:
    """Read the timings of a response; None where it has none."""
    if not message.HasField("timings"):
        return None
    timings = message.timings  # type: ignore[attr-defined]
    return Timings(
        queue_micros=timings.queue_micros,
        embed_micros=timings.embed_micros,
        database_micros=timings.database_micros,
        rank_micros=timings.rank_micros,
    )
