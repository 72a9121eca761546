"""Where image files come from: which of them hold the very images that were there before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from laketag.lake.committing import read_transaction
from laketag.lake.dataset import data_file, field_id
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


def rewrites(dataset: LanceDataset, image_column: str, since: int = 0) -> list[Rewrite]:
    """List the compactions after a version, the oldest first; those cleaned away are not there."""
    field = field_id(dataset.lance_schema, image_column)
    found = []
    for version in range(since + 1, dataset.version + 1):
        for old, new in _groups(dataset, version):
            parts = tuple(_rows(fragment, field) for fragment in old), tuple(_rows(f, field) for f in new)
            found.append(Rewrite(version, *parts))
    return found


def rewritten(dataset: LanceDataset, image_column: str, known: frozenset[str], since: int) -> frozenset[str]:
    """Follow compaction: name the data files that were made of known ones and of nothing else.

    Args:
        dataset: at the version up to which to follow.
        image_column: its data files are the ones in question.
        known: data files to begin with.
        since: the version at which they were known.

    Returns the data files that came about; a transaction that was cleaned away explains nothing.
    """
    found: set[str] = set()
    for rewrite in rewrites(dataset, image_column, since):
        if all(rows.file in known or rows.file in found for rows in rewrite.old):
            found.update(rows.file for rows in rewrite.new)
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


def _rows(fragment: FragmentMetadata, field: int) -> RowRange:
    file = data_file(fragment, field) or str(fragment.files[0].path)
    return RowRange(fragment.id, file, 0, fragment.physical_rows)
