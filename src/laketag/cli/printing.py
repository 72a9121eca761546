"""What goes out: lines for people, and JSON for programs on stdout, whatever a row holds."""

from __future__ import annotations

import base64
import codecs
import datetime
import io
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import typer

from laketag.cli import text

_AS_JSON = "laketag.as-json"


def open_what_is_closed() -> None:
    """Let the streams that a program was started without, as by `>&-`, lead nowhere.

    Left closed, the next file to be opened would get such a stream's number, and all that is printed to it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)  # workers must not be without it, either
            setattr(sys, name, os.fdopen(number, mode))


def take_any_text() -> None:
    """Let a terminal that lacks a letter have it as JSON writes it: what a program reads is the same."""
    codecs.register_error(_AS_JSON, _written_as_json)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_AS_JSON)


def _written_as_json(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def say(line: str) -> None:
    """Print one line for people on stderr, whatever it holds."""
    typer.echo(f"laketag: {' '.join(text.printable(line).split())}", err=True)


def tell(lines: Iterable[str]) -> None:
    """Print lines for people on stdout, whatever they hold."""
    for line in lines:
        typer.echo(text.printable(line))


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
