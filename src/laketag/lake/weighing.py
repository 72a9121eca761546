"""How many bytes each column takes on disk, told from the files' footers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lance import LanceDataset


def column_bytes(dataset: LanceDataset) -> dict[str, int]:
    """Give the bytes of each column as it is stored."""
    stats: Any = dataset.stats
    held = {each.id: int(each.bytes_on_disk) for each in stats.data_stats().fields}
    return {
        name: sum(held.get(one, 0) for one in _ids(dataset.lance_schema.field(name)))
        for name in dataset.schema.names
    }


def _ids(field: Any) -> list[int]:
    return [int(field.id()), *(one for child in field.children() for one in _ids(child))]
