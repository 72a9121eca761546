"""Bars side by side, as an SVG that can be read on a light and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import bench

_COLOURS = ("#d97706", "#2563eb", "#059669", "#9333ea", "#dc2626", "#0891b2")
_STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #24292f } .quiet { fill: #57606a } .title { font-weight: 600 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .quiet { fill: #9da7b3 } }
</style>"""
_LABELS, _BARS, _VALUES = 190, 400, 110
_BAR, _GAP = 13, 9


@dataclass(frozen=True)
class Panel:
    """Groups of bars that share a scale."""

    title: str
    groups: Mapping[str, Sequence[float | str]]
    """Of each group one value a side; words stand in for a bar that cannot be."""


@dataclass(frozen=True)
class Chart:
    """Panels below each other."""

    title: str
    sides: Sequence[str]
    panels: Sequence[Panel]


def draw(name: str, chart: Chart, *, long: bool) -> None:
    """Write a chart beside the result that it shows."""
    bench.result_file(name, "svg", long=long).write_text(svg(chart))


def svg(chart: Chart) -> str:
    """Draw a chart."""
    parts = [_text(0, 16, chart.title, "title")]
    x = 0.0
    for number, side in enumerate(chart.sides):
        parts.append(f'<rect x="{x:.0f}" y="27" width="11" height="11" rx="2" fill="{_COLOURS[number]}"/>')
        parts.append(_text(x + 16, 37, side))
        x += 40 + 6.6 * len(side)
    y = 52.0
    for panel in chart.panels:
        drawn, y = _panel(panel, y)
        parts += drawn
    width, height = max(_LABELS + _BARS + _VALUES, math.ceil(x)), math.ceil(y)
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    label = f'role="img" aria-label="{escape(chart.title)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {label}>'
    return "\n".join([head, _STYLE, *parts, "</svg>\n"])


def _panel(panel: Panel, y: float) -> tuple[list[str], float]:
    """Draw a panel from a height on; gives where it ends."""
    numbers = [value for group in panel.groups.values() for value in group if not isinstance(value, str)]
    largest = max([value for value in numbers if math.isfinite(value)], default=0.0) or 1.0
    parts = [_text(0, y + 14, panel.title, "title")]
    y += 24
    for name, group in panel.groups.items():
        middle = y + _BAR * len(group) / 2 + 4
        parts.append(_text(_LABELS - 8, middle, name, "quiet", anchor="end"))
        for number, value in enumerate(group):
            length = 0.0 if isinstance(value, str) else _BARS * max(value, 0) / largest
            size = f'width="{max(length, 1):.1f}" height="{_BAR - 2}"'
            parts.append(f'<rect x="{_LABELS}" y="{y:.0f}" {size} fill="{_COLOURS[number]}"/>')
            said = value if isinstance(value, str) else _said(value)
            parts.append(_text(_LABELS + length + 5, y + 10, said, "quiet"))
            y += _BAR
        y += _GAP
    return parts, y + _GAP


def _said(value: float) -> str:
    """Give three digits that matter; less than nothing, where a start-up was taken off, is nothing."""
    if value <= 0 or value >= 100:
        return f"{max(value, 0):,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
