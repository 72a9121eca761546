"""Which shards and samples a dataset has, told from its rows."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from laketag.lake import sql

if TYPE_CHECKING:
    from lance import LanceDataset

URL, KEY = "__url__", "__key__"
_AT_ONCE = 200


def present_urls(dataset: LanceDataset, urls: Collection[str]) -> set[str]:
    """Say of which shards the dataset has rows. It reads one column of text."""
    asked = set(urls)
    found: set[str] = set()
    for batch in dataset.scanner(columns=[URL]).to_batches():
        found |= asked.intersection(pc.unique(batch.column(URL)).to_pylist())
        if len(found) == len(asked):
            break
    return found


def keys_of(dataset: LanceDataset, urls: Collection[str]) -> dict[str, frozenset[str]]:
    """List the keys that the dataset has of each shard."""
    keys: dict[str, set[str]] = {url: set() for url in urls}
    ordered = sorted(keys)
    for start in range(0, len(ordered), _AT_ONCE):
        where = f"{sql.quote(URL)} in ({', '.join(map(sql.literal, ordered[start : start + _AT_ONCE]))})"
        for batch in dataset.scanner(columns=[URL, KEY], filter=where).to_batches():
            for url, key in zip(batch.column(URL).to_pylist(), batch.column(KEY).to_pylist(), strict=True):
                keys[url].add(key)
    return {url: frozenset(found) for url, found in keys.items()}
