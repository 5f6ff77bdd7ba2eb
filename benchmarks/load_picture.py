"""Draws latency over offered rate as SVG, which a browser and a code host show as it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 60, 90, 34, 40
COLOURS = {"p50_ms": "#2a78d6", "p95_ms": "#d98a1f", "p99_ms": "#c23b3b"}


def draw(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """Draw p50, p95 and p99 in milliseconds, on a logarithmic scale, over the rate offered per second."""
    most = float(max(row["offered"] for row in rows))
    values = [max(row[line], 0.1) for row in rows for line in COLOURS]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 0.01)

    def x(rate: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * rate / most

    def y(milliseconds: float) -> float:
        share: float = (math.log10(max(milliseconds, 0.1)) - low) / max(high - low, 1)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
            ' font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{title}: latency over offered rate</text>',
    ]
    for power in range(low, high + 1):
        level = y(10.0**power)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}" stroke="#ddd"/>'
        )
        parts.append(f'<text x="{LEFT - 8}" y="{level + 4:.1f}" text-anchor="end">{10.0**power:g} ms</text>')
    parts += [
        f'<text x="{x(row["offered"]):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
        f"{row['offered']}/s</text>"
        for row in rows
    ]
    for line, colour in COLOURS.items():
        points = " ".join(f"{x(row['offered']):.1f},{y(row[line]):.1f}" for row in rows)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        last = rows[-1]
        label = line.removesuffix("_ms")
        parts.append(
            f'<text x="{x(last["offered"]) + 8:.1f}" y="{y(last[line]) + 4:.1f}" fill="{colour}">'
            f"{label} {last[line]:g}</text>"
        )
    return "\n".join([*parts, "</svg>", ""])
