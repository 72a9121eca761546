"""JSON text becomes Arrow columns of the types that were agreed on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from laketag.shards.json_types import Type, to_arrow

MAX_PARSED = 64 << 20
"""Longer JSON texts are kept, but not taken apart."""
_DECODER, _BLANKS = json.JSONDecoder(), " \t\n\r"


class Unreadable(Exception):
    """Why a JSON member gives no columns."""


def parse(raw: bytes) -> dict[str, Any]:
    """Read a JSON object; the last of several equal keys counts, as in every reader.

    Raises:
        Unreadable: it is no object, or not JSON.
    """
    if len(raw) > MAX_PARSED:
        raise Unreadable(f"the JSON is longer than {MAX_PARSED >> 20} MiB")
    try:
        # What begins so is UTF-8, and to look for other encodings takes a while.
        is_plain = raw[:1] == b"{" and raw[1:2] != b"\0"
        value = _object(raw.decode(errors="surrogatepass")) if is_plain else json.loads(raw)
    except RecursionError:
        raise Unreadable("the JSON is nested too deeply") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise Unreadable(f"not JSON ({_without_place(error)})") from None
    if not isinstance(value, dict):
        raise Unreadable(f"the JSON is {_NAMES[type(value)]}, no object")
    return value


def _object(text: str) -> Any:
    """Read JSON as `json.loads` does, but look for blanks around it only where there is something."""
    value, end = _DECODER.raw_decode(text)
    if end != len(text) and text[end:].strip(_BLANKS):
        raise ValueError("Extra data")
    return value


_NAMES = {
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _without_place(error: ValueError) -> str:
    # The place differs from member to member, and equal reasons are counted together.
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).split(":")[0]


def column(values: Sequence[Any], kind: Type) -> pa.Array:
    """Make a column of one settled type from values that its union covers; null stays null."""
    if kind == "string" or kind == "null":
        try:
            return pa.array(values, pa.string())
        except (UnicodeEncodeError, pa.ArrowInvalid):
            pass  # A lone surrogate: those values are kept as JSON, which can write it.
    elif isinstance(kind, str) and kind != "text":
        return pa.array(values, to_arrow(kind))
    return pa.array([_fit(value, kind) for value in values], to_arrow(kind))


def _fit(value: Any, kind: Type) -> Any:
    if value is None:
        return None
    if isinstance(kind, str):
        return as_text(value) if kind in ("text", "string", "null") else value
    if "list" in kind:
        return [_fit(each, kind["list"]) for each in value]
    return {key: _fit(value.get(key), each) for key, each in kind["struct"].items()}


def as_text(value: Any) -> str:
    """Give a string as it is, and everything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return text
