"""Which shards and samples a dataset has, told from its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from laketag.lake import sql

if TYPE_CHECKING:
    from lance import LanceDataset

URL, KEY = "__url__", "__key__"
_AT_ONCE = 200


def rows_by_url(dataset: LanceDataset, urls: Collection[str]) -> Counter[str]:
    """Count the rows that the dataset has of each shard. It reads one column of text."""
    asked = set(urls)
    found: Counter[str] = Counter()
    for batch in dataset.scanner(columns=[URL]).to_batches():
        for each in pc.value_counts(batch.column(URL)).to_pylist():
            if each["values"] in asked:
                found[each["values"]] += each["counts"]
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
