"""What goes out: lines for people on stderr, and JSON for programs on stdout, whatever a row holds."""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Mapping
from typing import Any

import typer


def say(text: str) -> None:
    """Print one line for people on stderr, whatever the text holds."""
    typer.echo(f"laketag: {' '.join(text.split())}", err=True)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one object on one line of stdout."""
    typer.echo(to_json(value))


def to_json(value: Any) -> str:
    """Give a value as one line: bytes in base64, times in ISO 8601, NaN and infinities as null."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(", ", ": "))


def plain(value: Any) -> Any:
    """Turn a value of Arrow's into what JSON knows."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return str(value)
