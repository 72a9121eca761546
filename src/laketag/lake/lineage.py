"""Where data files come from: which of them hold the very values that were there before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laketag.lake.dataset import column_ids, fragments_of, source
from laketag.lake.reading import RowRange
from laketag.lake.transactions import read_transaction

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


@dataclass(frozen=True)
class Replacement:
    """A write after which rows or values lie in other data files: an update, a cast, a restore."""

    version: int
    """The version that it made."""
    sources: frozenset[str]
    """Where rows lie that may have been there before; other rows may lie there as well."""


def moves(
    dataset: LanceDataset, columns: Sequence[str], since: int, but: frozenset[int]
) -> Iterator[Rewrite | Replacement]:
    """List what may have moved rows after a version, the oldest first; what was cleaned away is not there.

    The rows' sources are the data files of the columns. Versions in `but` are not looked at.
    """
    import lance

    known = lance.LanceOperation
    ids = column_ids(dataset, columns)
    for version, operation in _operations(dataset, since, but):
        if isinstance(operation, known.Rewrite):
            yield from _rewrites(version, operation, ids)
        elif isinstance(operation, known.Update):
            is_in_place = not set(ids).isdisjoint(operation.fields_modified)
            made = [*operation.new_fragments, *(operation.updated_fragments if is_in_place else ())]
            yield Replacement(version, frozenset(source(fragment, ids) for fragment in made))
        elif isinstance(operation, known.DataReplacement | known.Merge | known.Restore):
            yield Replacement(version, _came_with(dataset, version, columns))


def rewritten(
    dataset: LanceDataset,
    columns: Sequence[str],
    known: frozenset[str],
    since: int,
    but: frozenset[int],
) -> frozenset[str]:
    """Follow compaction: name the sources that were made of known ones and of nothing else.

    Args:
        dataset: at the version up to which to follow.
        columns: their data files are the sources in question.
        known: sources to begin with.
        since: the version at which they were known.
        but: versions that are not looked at.

    Returns the sources that came about; a transaction that was cleaned away explains nothing.
    """
    import lance

    found: set[str] = set()
    if not known:
        return frozenset()
    ids = column_ids(dataset, columns)
    for version, operation in _operations(dataset, since, but):
        if isinstance(operation, lance.LanceOperation.Rewrite):
            for rewrite in _rewrites(version, operation, ids):
                if all(rows.source in known or rows.source in found for rows in rewrite.old):
                    found.update(rows.source for rows in rewrite.new)
    return frozenset(found)


def _came_with(dataset: LanceDataset, version: int, columns: Sequence[str]) -> frozenset[str]:
    before, after = (_places(dataset, number, columns) for number in (version - 1, version))
    return frozenset() if before is None or after is None else frozenset(name for name, _ in after - before)


def _places(dataset: LanceDataset, version: int, columns: Sequence[str]) -> frozenset[tuple[str, int]] | None:
    """Give each fragment's source, with its deletion file's id: a restore brings deleted rows back, too."""
    try:
        there = dataset.checkout_version(version)
    except (OSError, ValueError):
        return None  # it was cleaned away
    if not set(columns) <= set(there.schema.names):
        return None
    ids = column_ids(there, columns)
    return frozenset(
        (source(each, ids), each.deletion_file.id if each.deletion_file else 0)
        for each in fragments_of(there)
    )


def ancestors(dataset: LanceDataset, since: int) -> frozenset[int]:
    """List the versions from one on out of which the dataset's came about; a restore leaves some out.

    What was cleaned away is taken for no restore.
    """
    import lance

    found, version = set(), dataset.version
    while version >= since:
        found.add(version)
        transaction = read_transaction(dataset, version)
        is_back = transaction is not None and isinstance(transaction.operation, lance.LanceOperation.Restore)
        version = transaction.operation.version if is_back else version - 1
    return frozenset(found)


def is_restored(dataset: LanceDataset, since: int, but: frozenset[int]) -> bool:
    """Whether an earlier version was made the latest one after a version; those in `but` did not."""
    import lance

    made = (operation for _, operation in _operations(dataset, since, but))
    return any(isinstance(operation, lance.LanceOperation.Restore) for operation in made)


def _operations(dataset: LanceDataset, since: int, but: frozenset[int]) -> Iterator[tuple[int, Any]]:
    """Give what made each version after one, the oldest first; what was cleaned away is left out."""
    for version in range(since + 1, dataset.version + 1):
        transaction = None if version in but else read_transaction(dataset, version)
        if transaction is not None:
            yield version, transaction.operation


def _rewrites(version: int, operation: Any, ids: Sequence[int]) -> Iterator[Rewrite]:
    for group in operation.groups:
        old = tuple(_rows(fragment, ids) for fragment in group.old_fragments)
        yield Rewrite(version, old, tuple(_rows(fragment, ids) for fragment in group.new_fragments))


def _rows(fragment: FragmentMetadata, ids: Sequence[int]) -> RowRange:
    return RowRange(fragment.id, source(fragment, ids), 0, fragment.physical_rows)
