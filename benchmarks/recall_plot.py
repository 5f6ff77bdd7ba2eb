"""Draws what ``benchmarks/recall.py`` measured: time over the size of the scope, both logarithmic, as SVG."""

from __future__ import annotations

import math
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 420, 64, 120, 24, 48
_COLOURS = {"engine": "#1f4e9c", "exact": "#8a8a8a", "lists": "#2e8b57", "scan": "#c97b12", "hnsw": "#b0302e"}
_RIGHT_SHARE = 0.99


def plot(scopes: list[dict[str, Any]]) -> str:
    """Draw the scopes of users, agents and tenants; a hollow mark says that recall@10 is below 0.99."""
    points = {
        name: sorted(
            (scope["rows"], scope[name]["p50_processor_ms"], scope[name]["recall@10"])
            for scope in scopes
            if name in scope
        )
        for name in _COLOURS
    }
    most = max(scope["rows"] for scope in scopes)
    times = [time for series in points.values() for _rows, time, _recall in series]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))

    def x(rows: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log10(rows) / math.ceil(math.log10(most))

    def y(time: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (math.log10(time) - low) / (high - low)

    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    parts = [
        f'{head} font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for power in range(math.ceil(math.log10(most)) + 1):
        parts.append(_line(x(10**power), _TOP, x(10**power), _HEIGHT - _BOTTOM))
        parts.append(_text(x(10**power), _HEIGHT - _BOTTOM + 18, f"{10**power:,}", "middle"))
    for power in range(low, high + 1):
        parts.append(_line(_LEFT, y(10.0**power), _WIDTH - _RIGHT, y(10.0**power)))
        parts.append(_text(_LEFT - 6, y(10.0**power) + 4, f"{10.0**power:g}", "end"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, "turns in scope", "middle"))
    parts.append(_text(8, 14, "processor ms per query, median", "start"))
    for place, (name, series) in enumerate((name, series) for name, series in points.items() if series):
        colour = _COLOURS[name]
        path = " ".join(f"{x(rows):.1f},{y(time):.1f}" for rows, time, _recall in series)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for rows, time, recall in series:
            fill = colour if recall >= _RIGHT_SHARE else "white"
            parts.append(
                f'<circle cx="{x(rows):.1f}" cy="{y(time):.1f}" r="4" fill="{fill}" stroke="{colour}"/>'
            )
        parts.append(f'<circle cx="{_WIDTH - 100}" cy="{_TOP + 20 * place}" r="4" fill="{colour}"/>')
        parts.append(_text(_WIDTH - 90, _TOP + 20 * place + 4, name, "start"))
    return "\n".join([*parts, "</svg>", ""])


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
