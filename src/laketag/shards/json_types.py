"""The types of JSON values, and their union: one type per key that loses nothing of any sample.

A type is plain data, so that it can be staged: a word, `{"list": TYPE}` or `{"struct": {KEY: TYPE}}`. Their
union is commutative (but for the order of keys) and associative, so shards can be read in any order:

    null < bool, int, float, string, list, struct < text
    int < long < text, int < float < text

`int` is exact as a float64 and `long` is not, so that a `long` never becomes a float. `text` holds strings as
they are and everything else as JSON.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import pyarrow as pa

Type: TypeAlias = "str | dict[str, Any]"

MAX_DEPTH = 32
"""Deeper values become text: Arrow's own interface ends at 64."""
MAX_KEYS = 1000
"""Objects of more keys become text: they are maps, not records."""
_EXACT = 1 << 53
_LONG = 1 << 63
_WIDER = {frozenset(("int", "long")): "long", frozenset(("int", "float")): "float"}
_ARROW = {
    "null": pa.string(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "long": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
    "text": pa.string(),
}
_FROM_ARROW: dict[pa.DataType, str] = {
    pa.bool_(): "bool",
    pa.int64(): "long",
    pa.float64(): "float",
    pa.string(): "text",
    pa.large_string(): "text",
}


def type_of(value: Any, depth: int = 1) -> Type:
    """Tell the type of a value as `json.loads` gives it."""
    kind = type(value)
    if kind is str:
        return "string"
    if value is None:
        return "null"
    if kind is bool:
        return "bool"
    if kind is int:
        return "int" if -_EXACT <= value <= _EXACT else "long" if -_LONG <= value < _LONG else "text"
    if kind is float:
        return "float" if math.isfinite(value) else "text"
    if depth >= MAX_DEPTH:
        return "text"
    if kind is list:
        union: Type = "null"
        for each in value:
            union = unite(union, type_of(each, depth + 1))
        return {"list": union}
    if len(value) > MAX_KEYS:
        return "text"
    return {"struct": {key: type_of(each, depth + 1) for key, each in value.items()}}


def unite(one: Type, other: Type) -> Type:
    """Give the narrowest type that holds what both hold."""
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    if isinstance(one, str) and isinstance(other, str):
        return _WIDER.get(frozenset((one, other)), "text")
    if isinstance(one, str) or isinstance(other, str) or one.keys() != other.keys():
        return "text"
    if "list" in one:
        return {"list": unite(one["list"], other["list"])}
    keys = {**one["struct"]}
    for key, kind in other["struct"].items():
        keys[key] = unite(keys[key], kind) if key in keys else kind
    return {"struct": keys} if len(keys) <= MAX_KEYS else "text"


def settle(kind: Type) -> Type:
    """Make a type one that a column can have: what Arrow or Lance could not hold becomes text."""
    if isinstance(kind, str):
        return kind
    if "list" in kind:
        return {"list": settle(kind["list"])}
    keys = kind["struct"]
    # SQL tells names apart by more than case only where they are quoted, and not inside of structs.
    if not keys or len({key.lower() for key in keys}) < len(keys) or not all(map(_is_plain, keys)):
        return "text"
    return {"struct": {key: settle(each) for key, each in keys.items()}}


def to_arrow(kind: Type) -> pa.DataType:
    """Give the Arrow type of a settled type; null everywhere is a string."""
    if isinstance(kind, str):
        return _ARROW[kind]
    if "list" in kind:
        return pa.list_(to_arrow(kind["list"]))
    return pa.struct([pa.field(key, to_arrow(each)) for key, each in kind["struct"].items()])


def from_arrow(kind: pa.DataType) -> Type | None:
    """Give the type whose values a column of this Arrow type holds; None where there is none."""
    if pa.types.is_list(kind):
        inner = from_arrow(kind.value_type)
        return None if inner is None else {"list": inner}
    if pa.types.is_struct(kind):
        fields = {field.name: from_arrow(field.type) for field in kind}
        return None if None in fields.values() else {"struct": fields}
    return _FROM_ARROW.get(kind)


def _is_plain(name: str) -> bool:
    return bool(name) and name.isprintable() and not any(letter in name for letter in ".`")
