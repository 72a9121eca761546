"""Keys that several shards have: both rows are kept, and counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from laketag.lake.presence import KEY
from laketag.lake.staged import StagedFiles
from laketag.shards.ledger import NAMED
from laketag.shards.record import Record

REPEATED = "this key is in an earlier shard too; each has its row"


def find_repeated_keys(staged: StagedFiles, records: Sequence[Record]) -> list[dict[str, str]]:
    """List keys that occur in more than one of the shards, as the report has skipped members.

    Takes 8 bytes a row: hashes are compared, and only where they are equal, the keys.
    """
    shards = [ledger for record in records for ledger in record.ledgers if ledger.rows]
    if len(shards) < 2:
        return []
    hashes = np.concatenate(
        [np.fromiter(map(hash, keys), np.int64, len(keys)) for keys in _keys(staged, records)]
    )
    values, counts = np.unique(hashes, return_counts=True)
    is_suspect = np.isin(hashes, values[counts > 1])
    borders = np.cumsum([ledger.rows for ledger in shards])
    seen: set[str] = set()
    named: list[dict[str, str]] = []
    more = at = 0
    for keys in _keys(staged, records):
        for row in np.flatnonzero(is_suspect[at : at + len(keys)]):
            if keys[row] not in seen:
                seen.add(keys[row])
            elif len(named) < NAMED:
                shard = shards[int(np.searchsorted(borders, at + row, "right"))].shard
                named.append({"shard": shard, "member": keys[row], "reason": REPEATED})
            else:
                more += 1
        at += len(keys)
    if more:
        named[-1]["reason"] += f" (and {more} more after this one)"
    return named


def _keys(staged: StagedFiles, records: Sequence[Record]) -> Iterator[list[str]]:
    for record in records:
        for piece in record.pieces:
            for part in piece.parts:
                yield staged.read(part, [KEY])[KEY].to_pylist()
