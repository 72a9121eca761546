"""Where data files come from: which of them hold the very values that were there before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laketag.lake.committing import read_transaction
from laketag.lake.dataset import column_ids, source
from laketag.lake.reading import RowRange

if TYPE_CHECKING:
    from lance import LanceDataset
    from lance.fragment import FragmentMetadata


@dataclass(frozen=True)
class Rewrite:
    """What compaction made of some fragments: the old ones' live rows, in their order, in new ones."""

    version: int
    """The version that it made."""
    old: tuple[RowRange, ...]
    """The fragments as they were, from end to end."""
    new: tuple[RowRange, ...]
    """The fragments that came about."""


def rewrites(dataset: LanceDataset, columns: Sequence[str], since: int = 0) -> list[Rewrite]:
    """List the compactions after a version, the oldest first; those cleaned away are not there.

    The rows' sources are the data files of the columns.
    """
    ids = column_ids(dataset, columns)
    found = []
    for version in range(since + 1, dataset.version + 1):
        for old, new in _groups(dataset, version):
            parts = tuple(_rows(fragment, ids) for fragment in old), tuple(_rows(f, ids) for f in new)
            found.append(Rewrite(version, *parts))
    return found


def rewritten(
    dataset: LanceDataset, columns: Sequence[str], known: frozenset[str], since: int
) -> frozenset[str]:
    """Follow compaction: name the sources that were made of known ones and of nothing else.

    Args:
        dataset: at the version up to which to follow.
        columns: their data files are the sources in question.
        known: sources to begin with.
        since: the version at which they were known.

    Returns the sources that came about; a transaction that was cleaned away explains nothing.
    """
    found: set[str] = set()
    for rewrite in rewrites(dataset, columns, since):
        if all(rows.source in known or rows.source in found for rows in rewrite.old):
            found.update(rows.source for rows in rewrite.new)
    return frozenset(found)


def _groups(
    dataset: LanceDataset, version: int
) -> list[tuple[list[FragmentMetadata], list[FragmentMetadata]]]:
    import lance

    transaction = read_transaction(dataset, version)
    operation = None if transaction is None else transaction.operation
    if not isinstance(operation, lance.LanceOperation.Rewrite):
        return []
    return [(list(group.old_fragments), list(group.new_fragments)) for group in operation.groups]


def _rows(fragment: FragmentMetadata, ids: Sequence[int]) -> RowRange:
    return RowRange(fragment.id, source(fragment, ids), 0, fragment.physical_rows)
