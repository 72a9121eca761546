"""Two versions of a dataset held against each other: fragments, rows, and a column's values row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from laketag.lake.dataset import column_ids, data_file, fragments_of
from laketag.times import in_pythons_times

if TYPE_CHECKING:
    from lance import LanceDataset
    from lance.fragment import FragmentMetadata

ROW_ID, ADDRESS = "_rowid", "_rowaddr"


def changed_fragments(
    old: LanceDataset, new: LanceDataset, state: Callable[[LanceDataset, FragmentMetadata], object]
) -> tuple[list[int], list[int]]:
    """Leave out the fragments that are in both versions in the same state."""
    before = {each.id: state(old, each) for each in fragments_of(old)}
    after = {each.id: state(new, each) for each in fragments_of(new)}
    return (
        [fragment for fragment, held in before.items() if after.get(fragment) != held],
        [fragment for fragment, held in after.items() if before.get(fragment) != held],
    )


def deletions(dataset: LanceDataset, fragment: FragmentMetadata) -> object:
    """Say which rows of a fragment are deleted."""
    deletion = fragment.deletion_file
    return ("rows", None if deletion is None else deletion.json())


def column_state(dataset: LanceDataset, fragment: FragmentMetadata, names: Sequence[str]) -> object:
    """Say where a fragment has its values of a column, which goes by the first of the names that is there."""
    [name, *_] = [name for name in names if name in dataset.schema.names]
    # A file may hold several columns, of which one took the name of another.
    files = [(each, data_file(fragment, each)) for each in column_ids(dataset, [name])]
    return (dataset.schema.field(name).type, deletions(dataset, fragment), files)


def files_of(dataset: LanceDataset, number: int) -> set[str]:
    """Name the data files that hold a field, by its id."""
    held = {data_file(each, number) for each in fragments_of(dataset)}
    return {file for file in held if file is not None}


def _read(dataset: LanceDataset, fragments: Iterable[int], columns: list[str]) -> pa.Table:
    chosen: list[Any] = [dataset.get_fragment(fragment) for fragment in fragments]
    options: dict[str, Any] = {"columns": columns, "with_row_id": True, "with_row_address": True}
    if not chosen:
        # No fragment would mean all of them.
        return dataset.scanner(limit=0, **options).to_table()
    return dataset.scanner(fragments=chosen, **options).to_table()


def ids_of(dataset: LanceDataset, fragments: Iterable[int], key: str) -> npt.NDArray[np.uint64]:
    """List the row ids, or the addresses, of some fragments' rows."""
    ids: npt.NDArray[np.uint64] = _read(dataset, fragments, [])[key].to_numpy()
    return ids


def values_of(dataset: LanceDataset, fragments: Iterable[int], name: str, key: str) -> pa.Table:
    """Give the values of a column in some fragments, by row id or address: key and value."""
    table = _read(dataset, fragments, [name])
    return pa.table({"key": table[key], "value": table[name].combine_chunks()})


def rows_of(dataset: LanceDataset, fragments: Iterable[int]) -> int:
    """Count the rows of some fragments."""
    wanted = set(fragments)
    return sum(each.num_rows for each in fragments_of(dataset) if each.id in wanted)


def matched(before: pa.Table, after: pa.Table) -> pa.Table:
    """Give key, value before and value after of the rows that are in both."""
    keys, wanted = before["key"].to_numpy(), after["key"].to_numpy()
    if not np.array_equal(keys, wanted):  # as they are where labels alone were written
        _, at_before, at_after = np.intersect1d(keys, wanted, assume_unique=True, return_indices=True)
        before, after = before.take(pa.array(at_before)), after.take(pa.array(at_after))
    return pa.table({"key": before["key"], "before": before["value"], "after": after["value"]})


def is_other(both: pa.Table) -> Any:
    """Say of each row of what `matched` gives whether its values differ; NaN is equal to itself."""
    left, right = both["before"], both["after"]
    if left.type != right.type:
        try:
            left, right = _of_one_type(left, right)
        except pa.ArrowException:  # what one holds, the other cannot
            return pc.or_(pc.is_valid(left), pc.is_valid(right))
    if pa.types.is_nested(left.type):
        return _is_other_list(left, right)
    is_one_null = pc.xor(pc.is_null(left), pc.is_null(right))
    is_unequal = pc.fill_null(pc.not_equal(left, right), False)
    if pa.types.is_floating(left.type):
        both_nan = pc.fill_null(pc.and_(pc.is_nan(left), pc.is_nan(right)), False)
        is_unequal = pc.and_not(is_unequal, both_nan)
    return pc.or_(is_one_null, is_unequal)


def _of_one_type(left: pa.ChunkedArray, right: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    if pa.types.is_integer(left.type) and pa.types.is_floating(right.type):
        return left.cast(right.type, safe=False), right
    return left, right.cast(left.type, safe=False)


def _is_other_list(left: pa.ChunkedArray, right: pa.ChunkedArray) -> Any:
    """As `is_other`, of vectors, lists and structs, which Arrow does not compare."""
    is_both = pc.and_(pc.is_valid(left), pc.is_valid(right))
    found: npt.NDArray[np.bool_] = pc.xor(pc.is_null(left), pc.is_null(right)).to_numpy().copy()
    old, new = left.filter(is_both).combine_chunks(), right.filter(is_both).combine_chunks()
    if pa.types.is_fixed_size_list(left.type) and pa.types.is_floating(left.type.value_type):
        # Numbers, not Python's objects: a vector may have a thousand, in each of millions of rows.
        shape = (len(old), left.type.list_size)
        before, after = (side.flatten().to_numpy(zero_copy_only=False).reshape(shape) for side in (old, new))
        is_unlike = (before != after) & ~(np.isnan(before) & np.isnan(after))
        found[is_both.to_numpy()] = is_unlike.any(axis=1)
    else:
        sides = in_pythons_times(pa.table([old, new], names=["old", "new"]))
        pairs = zip(*(side.to_pylist() for side in sides.columns), strict=True)
        # As text: a NaN is equal to itself there.
        found[is_both.to_numpy()] = [repr(before) != repr(after) for before, after in pairs]
    return pa.array(found)
