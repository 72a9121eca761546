"""Where image files come from: which of them hold the very images that were there before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laketag.lake.dataset import data_file, field_id

if TYPE_CHECKING:
    from lance import LanceDataset
    from lance.fragment import FragmentMetadata


def rewritten(dataset: LanceDataset, image_column: str, known: frozenset[str], since: int) -> frozenset[str]:
    """Follow compaction: name the data files that were made of known ones and of nothing else.

    Args:
        dataset: at the version up to which to follow.
        image_column: its data files are the ones in question.
        known: data files to begin with.
        since: the version at which they were known.

    Returns the data files that came about; a transaction that was cleaned away explains nothing.
    """
    field = field_id(dataset.lance_schema, image_column)
    found: set[str] = set()
    for version in range(since + 1, dataset.version + 1):
        for old, new in _groups(dataset, version):
            if all(_file(fragment, field) in known | found for fragment in old):
                found.update(_file(fragment, field) for fragment in new)
    return frozenset(found)


def _groups(
    dataset: LanceDataset, version: int
) -> list[tuple[list[FragmentMetadata], list[FragmentMetadata]]]:
    import lance

    try:
        transaction = dataset.read_transaction(version)
    except (OSError, ValueError):
        return []
    operation = None if transaction is None else transaction.operation
    if not isinstance(operation, lance.LanceOperation.Rewrite):
        return []
    return [(list(group.old_fragments), list(group.new_fragments)) for group in operation.groups]


def _file(fragment: FragmentMetadata, field: int) -> str:
    return data_file(fragment, field) or str(fragment.files[0].path)
