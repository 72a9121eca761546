"""Values as pages show them: numbers, sizes, shares and what a cell holds."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from typing import Any

_FEW = 8


def number(value: float) -> str:
    """Give a number in as many places as tell it from its neighbours."""
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 0.001 else f"{value:.2g}"


def size(count: float) -> str:
    """Give bytes in decimal units."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"


def share(part: int, whole: int) -> str:
    """Give a part in percent."""
    if not whole:
        return "0 %"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.1f} %"


def count(number: int, noun: str) -> str:
    """Give a number with its noun, in the plural where it must be."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def cell(value: Any) -> str:
    """Give any value of a column as text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value) if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return f"{size(len(value))}, not shown"
    if isinstance(value, list) and len(value) > _FEW and isinstance(value[0], float):
        return f"{len(value)} numbers: {', '.join(number(each) for each in value[:_FEW])}, …"
    if isinstance(value, list | Mapping):
        return json.dumps(value, ensure_ascii=False, indent=1, default=str)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def brief(value: str) -> str:
    """Shorten a digest to what tells it from others."""
    is_digest = len(value) >= 32 and all(letter in "0123456789abcdef" for letter in value)
    return value[:12] if is_digest else value
