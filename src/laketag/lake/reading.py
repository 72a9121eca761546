"""Reading rows of a dataset by their physical place, and no byte more than asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from laketag.errors import BadSQL
from laketag.lake import sql
from laketag.lake.dataset import column_ids, fragments_of, is_blob, is_image_like, source
from laketag.lake.explaining import first_line, sql_explained
from laketag.times import in_pythons_times

if TYPE_CHECKING:
    from lance import LanceDataset


BlobHandling: TypeAlias = Literal["all_binary", "blobs_descriptions"]

# A read-ahead of 64 MiB keeps a scan of large images within a worker's memory and costs no speed.
_IO_BUFFER = 64 << 20
_BATCH_BYTES = 8 << 20
_SAMPLED = 256


@dataclass(frozen=True, slots=True)
class RowRange:
    """Physical rows of one fragment, deleted ones included."""

    fragment: int
    """The fragment's id in the version at hand."""
    source: str
    """The data files that hold what labels are made from: those of the columns that are read."""
    start: int
    """The first physical offset."""
    stop: int
    """One past the last."""

    def __reduce__(self) -> tuple[type[RowRange], tuple[int, str, int, int]]:
        """Pickle by the values alone: a commit sends one a fragment, and a dataclass's own way is slow."""
        return RowRange, (self.fragment, self.source, self.start, self.stop)


def ranges_of(dataset: LanceDataset, columns: Sequence[str]) -> list[RowRange]:
    """List every fragment from end to end, with the data files that hold some columns."""
    ids = column_ids(dataset, columns)
    return [RowRange(each.id, source(each, ids), 0, each.physical_rows) for each in fragments_of(dataset)]


def whole(dataset: LanceDataset, fragment_id: int) -> RowRange:
    """Give a fragment from end to end, whatever its data files are."""
    return RowRange(fragment_id, "", 0, _fragment(dataset, fragment_id).physical_rows)


def row_bytes(dataset: LanceDataset) -> int:
    """Estimate a row's size from the first fragment's data files, and the blobs that lie elsewhere."""
    for first in fragments_of(dataset)[:1]:
        stored = sum(file.file_size_bytes or 0 for file in first.files) // max(1, first.physical_rows)
        return max(stored, _blob_bytes(dataset))
    return 0


def _blob_bytes(dataset: LanceDataset) -> int:
    names = [each.name for each in dataset.schema if is_blob(each)]
    if not names:
        return 0
    some = dataset.scanner(columns=names, limit=_SAMPLED).to_table()
    total = sum(pc.sum(pc.struct_field(some[name], "size")).as_py() or 0 for name in names)
    return int(total // max(1, some.num_rows))


def blob_handling(dataset: LanceDataset, columns: Sequence[str]) -> BlobHandling:
    """Say how a scan of some columns has blobs: as bytes only where it gives them.

    A filter can but ask whether there is one. Their places tell that, but not in files of version 2.0.
    """
    is_given = any(is_image_like(field) and field.name in columns for field in dataset.schema)
    return "all_binary" if is_given or not _places_tell(dataset) else "blobs_descriptions"


def _places_tell(dataset: LanceDataset) -> bool:
    return bool(dataset.data_storage_version != "2.0")


def streaming(row_bytes: int) -> dict[str, Any]:
    """Give a scanner's options by which rows of a size are read a few at a time."""
    rows = max(1, min(4096, _BATCH_BYTES // max(1, row_bytes)))
    return {"batch_size": rows, "io_buffer_size": _IO_BUFFER, "batch_readahead": 4}


def sparing(dataset: LanceDataset, where: str | None) -> dict[str, Any]:
    """Give a scanner's options by which a filter, or a query, that reads images reads a few at a time.

    It reads those that it names, but blobs whose places tell all.
    """
    read = [each.name for each in dataset.schema if is_image_like(each)]
    if _places_tell(dataset):
        read = [name for name in read if not is_blob(dataset.schema.field(name))]
    is_named = any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", where or "") for name in read)
    return streaming(row_bytes(dataset)) if is_named else {}


def address(fragment: int, offset: int) -> int:
    """Compose Lance's row address."""
    return fragment << 32 | offset


def scan(
    dataset: LanceDataset,
    ranges: Sequence[RowRange],
    columns: Sequence[str],
    *,
    where: str | None = None,
    addresses: npt.NDArray[np.int64] | None = None,
    row_bytes: int = 0,
) -> Iterator[pa.RecordBatch]:
    """Stream live rows of some ranges, in order, with `_rowaddr` beside the columns.

    Args:
        dataset: pinned to a version.
        ranges: a part of one fragment, or fragments from end to end; all fragments where empty.
        columns: blobs come as bytes.
        where: a filter whose names are columns, exact-case.
        addresses: only these rows; they must lie in the ranges.
        row_bytes: an estimate, from which the size of a batch follows.

    Raises:
        BadSQL: Lance cannot run the filter.
    """
    filters = [f"({sql.for_filter(where, dataset.schema.names)})"] if where else []
    if addresses is not None:
        filters.append(_among(addresses))
    elif len(ranges) == 1:
        part = ranges[0]
        first, end = address(part.fragment, part.start), address(part.fragment, part.stop)
        filters.append(f"_rowaddr >= {first} and _rowaddr < {end}")
    try:
        yield from dataset.scanner(
            columns=list(columns),
            filter=" and ".join(filters) or None,
            fragments=[_fragment(dataset, part.fragment) for part in ranges] or None,
            with_row_address=True,
            blob_handling=blob_handling(dataset, columns),
            **streaming(row_bytes) | sparing(dataset, where),
        ).to_batches()
    except ValueError as error:
        if where is None:
            raise
        raise BadSQL(f"the filter {where!r} cannot be run: {first_line(error)}") from error


def live_addresses(
    dataset: LanceDataset, ranges: Sequence[RowRange], where: str | None = None
) -> npt.NDArray[np.int64]:
    """List where the rows lie that `scan` gives, in order; no column but the filter's is read."""
    found = [batch["_rowaddr"].to_numpy() for batch in scan(dataset, ranges, [], where=where)]
    return np.sort(np.concatenate([np.empty(0, np.uint64), *found]).astype(np.int64))


def fetch(dataset: LanceDataset, addresses: npt.NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
    """Read rows by their addresses, in the order of these, with `_rowaddr` beside the columns.

    All are held at once; blobs come as bytes.
    """
    parts = [whole(dataset, fragment) for fragment in np.unique(addresses >> 32).tolist()]
    table = pa.Table.from_batches(list(scan(dataset, parts, columns, addresses=np.sort(addresses))))
    there = table["_rowaddr"].to_numpy().astype(np.int64)
    order = np.argsort(there)
    return table.take(pa.array(order[np.searchsorted(there, addresses, sorter=order)]))


def values(column: pa.Array) -> list[Any]:
    """Give a column's values one by one: vectors of numbers as arrays, all else as Python has it."""
    held = column.type
    is_vector = pa.types.is_fixed_size_list(held) and pa.types.is_primitive(held.value_type)
    if not is_vector or pa.types.is_boolean(held.value_type):
        [plain] = in_pythons_times(pa.record_batch([column], names=[""])).columns
        return list(plain.to_pylist())
    set_ = column.drop_null()
    flat = set_.flatten()
    if flat.null_count:
        # Row by row: what a row is given as, and so its digest, is not for its neighbours to decide.
        return [_vector(each.values) if each.is_valid else None for each in column]
    # A list of a thousand Python numbers a row would cost more than most of what is done with it.
    rows = iter(flat.to_numpy(zero_copy_only=False).reshape(len(set_), held.list_size))
    return [next(rows) if is_set else None for is_set in column.is_valid().to_pylist()]


def _vector(numbers: pa.Array) -> Any:
    return numbers.to_pylist() if numbers.null_count else numbers.to_numpy(zero_copy_only=False)


def check_filter(dataset: LanceDataset, where: str) -> None:
    """Raise `BadSQL` where a filter cannot be run, without reading a row."""
    named = sql.for_filter(where, dataset.schema.names)
    with sql_explained(dataset.uri, "filter", where):
        dataset.scanner(columns=[], with_row_id=True, filter=named).explain_plan()


def _among(addresses: npt.NDArray[np.int64]) -> str:
    return f"_rowaddr in ({', '.join(map(str, addresses.tolist()))})"


def _fragment(dataset: LanceDataset, fragment_id: int) -> Any:
    return dataset.get_fragment(fragment_id)
