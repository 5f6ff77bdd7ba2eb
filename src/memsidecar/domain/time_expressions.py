"""Dates and spans of time that a query names."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Span = tuple[datetime, datetime]
"""Half-open, in UTC."""

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
_MONTHS |= {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_MONTHS["sept"] = 9
_MONTH = "(" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\.?"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_LATEST_YEAR = 9998


def named_spans(query: str, first: datetime, last: datetime, now: datetime) -> list[Span]:
    """Give the spans that a query names; the most exact way of naming that occurs in it counts alone.

    Args:
        query: English month names and ISO dates are understood.
        first: Earliest moment of the turns in question: a month without a year means every such month from here
        last: to here.
        now: What "today", "last week" and the like count from.
    """
    text = query.lower()
    for pattern, read in _ABSOLUTE:
        spans = [span for match in pattern.finditer(text) for span in _valid(read, match, first, last)]
        if spans:
            return spans
    return [span for words, span in _relative(now) if re.search(rf"\b{words}\b", text)]


def _valid(
    read: Callable[[re.Match[str], datetime, datetime], Iterator[Span]],
    match: re.Match[str],
    first: datetime,
    last: datetime,
) -> Iterator[Span]:
    try:
        yield from read(match, first, last)
    except ValueError:
        return  # 31 February, the year 0: not a date


def _day(year: int, month: int, day: int) -> Span:
    start = datetime(min(year, _LATEST_YEAR), month, day, tzinfo=UTC)
    return start, start + timedelta(days=1)


def _month(year: int, month: int) -> Span:
    start = datetime(min(year, _LATEST_YEAR), month, 1, tzinfo=UTC)
    return start, start + timedelta(days=calendar.monthrange(start.year, month)[1])


def _iso_date(match: re.Match[str], _first: datetime, _last: datetime) -> Iterator[Span]:
    yield _day(int(match[1]), int(match[2]), int(match[3]))


def _day_month_year(match: re.Match[str], _first: datetime, _last: datetime) -> Iterator[Span]:
    yield _day(int(match[3]), _MONTHS[match[2]], int(match[1]))


def _month_day_year(match: re.Match[str], _first: datetime, _last: datetime) -> Iterator[Span]:
    yield _day(int(match[3]), _MONTHS[match[1]], int(match[2]))


def _month_year(match: re.Match[str], _first: datetime, _last: datetime) -> Iterator[Span]:
    yield _month(int(match[2]), _MONTHS[match[1]])


def _month_of_any_year(match: re.Match[str], first: datetime, last: datetime) -> Iterator[Span]:
    for year in range(max(first.year, last.year - _MOST_YEARS), last.year + 1):
        yield _day(year, _MONTHS[match[1]], int(match[2])) if match[2] else _month(year, _MONTHS[match[1]])


_MOST_YEARS = 50
"""A bare month is looked for in at most so many years."""

_ABSOLUTE = [
    (re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b"), _iso_date),
    (re.compile(rf"\b{_DAY}(?: of)? {_MONTH},? (\d{{4}})\b"), _day_month_year),
    (re.compile(rf"\b{_MONTH} {_DAY},? (\d{{4}})\b"), _month_day_year),
    (re.compile(rf"\b{_MONTH},? (?:of )?(\d{{4}})\b"), _month_year),
    (
        re.compile(
            rf"\b(?:in|during|of|on|by|early|late|mid|since|until|before|after) {_MONTH}(?: {_DAY})?(?!\w)"
        ),
        _month_of_any_year,
    ),
]
"""Tried in order; the first that finds a date counts alone."""


def _relative(now: datetime) -> Iterator[tuple[str, Span]]:
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    week = day - timedelta(days=day.weekday())
    month = day.replace(day=1)
    tomorrow = day + timedelta(days=1)
    yield "today", (day, tomorrow)
    yield "yesterday", (day - timedelta(days=1), day)
    yield "this week", (week, week + timedelta(days=7))
    yield "last week", (week - timedelta(days=7), week)
    yield "this month", (month, tomorrow)
    yield "last month", ((month - timedelta(days=1)).replace(day=1), month)
