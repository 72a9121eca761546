"""A row becomes a sample again: its members as they came, and its labels in the JSON."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from laketag.lake.presence import KEY
from laketag.shards.json_values import Unreadable, parse
from laketag.shards.layout import Layout
from laketag.shards.samples import split_name

RAW = "json"
"""Under which key the JSON holds an earlier JSON that is no object."""
_NOT_SAFE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass
class Keys:
    """The keys of one shard: each names one sample, in a way that every reader takes."""

    renamed: int = 0
    """Samples whose key had to change."""
    _taken: set[str] = field(default_factory=set)

    def of(self, key: str) -> str:
        """Give a row's key, changed only where it would not come back as it is."""
        name, number = _safe(key), 2
        stem = name
        while name in self._taken:
            name, number = f"{stem}-{number}", number + 1
        self._taken.add(name)
        self.renamed += name != key
        return name


def members_of(
    row: Mapping[str, Any], layout: Layout, *, named: str | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield a sample's members, extension and body, images as the bytes that they are; at least one.

    Args:
        row: by column.
        layout: what becomes what.
        named: the row's own key, where the sample has another one; the JSON then tells it.
    """
    seen = set()
    for each in layout.members:
        if row[each.column] is not None:
            body = _body(row[each.column])
            extension = each.extension_of(body)
            if extension in seen:
                extension = f"{each.column.replace('/', '_')}.{extension}"
            seen.add(extension)
            yield extension, body
    labels = {name: plain(row[name]) for name in layout.labels}
    if named is not None:
        labels[KEY] = named
    text = merged(row[layout.raw] if layout.raw else None, labels)
    if text is not None or not seen:
        yield "json", (text or "{}").encode(errors="surrogatepass")


def merged(raw: str | None, labels: Mapping[str, Any]) -> str | None:
    """Add labels to a JSON text, which otherwise stays what it is, letter for letter.

    A label takes the place of an older value of its name. JSON that is no object is kept, as a text, under
    `json`. Returns None where there is nothing to say.
    """
    if not labels:
        return raw
    added = json.dumps(labels, ensure_ascii=False, allow_nan=False)
    if raw is None:
        return added
    try:
        values = parse(raw.encode())
    except Unreadable:
        return json.dumps({RAW: raw, **labels}, ensure_ascii=False, allow_nan=False)
    if not values:
        return added
    # Only other encodings than UTF-8 have such bytes: text of ours does not go on from theirs.
    if "\0" in raw or not values.keys().isdisjoint(labels):
        return json.dumps({**values, **labels})
    return f"{raw.rstrip()[:-1].rstrip()}, {added[1:]}"


def plain(value: Any) -> Any:
    """Turn a value of Arrow's into what JSON knows: bytes as base64, times as ISO 8601, NaN as null."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _body(value: Any) -> bytes:
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else str(value).encode()


def _safe(key: str) -> str:
    """Give the key itself where a tar may hold it and a reader finds it again, else one made from it."""
    parts = key.split("/")
    is_safe = ".." not in parts and "." not in parts and "" not in parts and not _NOT_SAFE.search(key)
    if is_safe and split_name(f"{key}.x") == (key, "x"):
        return key
    # No folder above, no second extension, no name that readers pass over.
    kept = [_NOT_SAFE.sub("_", part).replace(".", "_") for part in parts if part not in ("", ".")]
    safe = "/".join(f"key{part}" if part.startswith("__") and part.endswith("__") else part for part in kept)
    return safe or "key"
