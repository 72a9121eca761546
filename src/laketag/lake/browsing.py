"""Rows of one version as people look at them: chosen, put in order, and read a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from laketag.lake import sql
from laketag.lake.dataset import image_column, is_image_like, open_dataset
from laketag.lake.explaining import sql_explained
from laketag.lake.location import Location
from laketag.lake.query import order_of
from laketag.lake.reading import sparing
from laketag.lake.similar import near
from laketag.times import in_pythons_times

if TYPE_CHECKING:
    from lance import LanceDataset

ROW_ID = "_rowid"
RowIds = npt.NDArray[np.uint64]
_AT_ONCE = 10_000
_BITS = 64


@dataclass(frozen=True, eq=False)
class Chosen:
    """Rows in order."""

    ids: RowIds
    """The first of them, or all."""
    total: int
    """All."""


@dataclass(frozen=True)
class View:
    """One version of a dataset, to look at."""

    dataset: LanceDataset
    image: str | None
    """The column that holds the images; None where no column holds bytes."""

    @classmethod
    def of(cls, location: Location, version: int | str | None = None, image: str | None = None) -> View:
        """Open a version, the latest one by default.

        Raises:
            DatasetNotFound: there is no dataset.
            DatasetError: there is no such version.
            ColumnError: it cannot be told which column holds the images.
        """
        dataset = open_dataset(location, version)
        has_bytes = image is not None or any(is_image_like(field) for field in dataset.schema)
        return cls(dataset, image_column(dataset.schema, image) if has_bytes else None)

    @property
    def version(self) -> int:
        """Its number."""
        return int(self.dataset.version)

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        schema: pa.Schema = self.dataset.schema
        return schema

    def choose(
        self, where: str | None = None, order_by: str | None = None, *, first: int | None = None
    ) -> Chosen:
        """Choose rows and put them in order; nulls come last, and equal rows stay in the dataset's order.

        Args:
            where: a filter whose names are columns, exact-case.
            order_by: a column, with ` desc` after it for the highest first.
            first: give only so many; to find these in a million rows takes a tenth of the time.

        Raises:
            BadSQL: Lance cannot run the filter.
            ColumnError: there is no such column to order by.
        """
        name, descending = order_of(self.schema, order_by) if order_by else (None, False)
        table = self.values([name] if name else [], where)
        ids: RowIds = table[ROW_ID].to_numpy()
        total = len(ids)
        if name is not None:
            ids = ids[_order(table[name], descending, first)]
        return Chosen(ids[:first], total)

    def values(self, columns: Sequence[str], where: str | None = None, *, has_many: bool = False) -> pa.Table:
        """Read whole columns of the chosen rows, with `_rowid` beside them. Ask for no bytes here.

        Args:
            columns: the columns.
            where: a filter whose names are columns, exact-case.
            has_many: the filter is known to pass many rows; to look these up by an index would be slow.

        Raises:
            BadSQL: Lance cannot run the filter.
        """
        text = sql.for_filter(where, self.schema.names) if where else None
        with sql_explained(self.dataset.uri, "filter", where):
            # Columns this narrow are read whole twice as fast as they are looked up for the rows that pass.
            return self.dataset.scanner(
                columns=list(columns),
                filter=text,
                with_row_id=True,
                late_materialization=False,
                use_scalar_index=not has_many,
                **sparing(self.dataset, where),
            ).to_table()

    def rows(self, ids: Sequence[int] | RowIds, columns: Sequence[str]) -> list[dict[str, Any] | None]:
        """Read some columns of some rows, in the order of the ids; None for a row that is not there."""
        found = {row.pop(ROW_ID): row for row in self._read(ids, columns)}
        return [found.get(int(one)) for one in ids]

    def images(self, ids: Sequence[int] | RowIds) -> list[bytes | None]:
        """Read the images of some rows, in the order of the ids."""
        if self.image is None:
            return [None] * len(ids)
        return [None if row is None else row[self.image] for row in self.rows(ids, [self.image])]

    def nearest(self, column: str, row: int, count: int) -> list[tuple[int, float]]:
        """Find the rows whose vectors are nearest to a row's, with their distances, itself left out."""
        [found] = self.rows([row], [column])
        vector = found and found[column]
        if vector is None:
            return []
        wanted = near(column, pa.array(vector, self.schema.field(column).type.value_type), limit=count + 1)
        table = self.dataset.scanner(columns=["_distance"], nearest=wanted, with_row_id=True).to_table()
        pairs = zip(table[ROW_ID].to_pylist(), table["_distance"].to_pylist(), strict=True)
        return [(one, distance) for one, distance in pairs if one != row][:count]

    def alike(self, column: str, row: int, count: int) -> list[tuple[int, float]]:
        """Find the rows whose hash has the fewest other bits than a row's, with their number."""
        table = self.values([column]).drop_null()
        ids, hashes = table[ROW_ID].to_numpy(), table[column].to_numpy().astype(np.int64)
        [at] = np.flatnonzero(ids == row)[:1].tolist() or [None]
        if at is None:
            return []
        bits = np.bitwise_count(np.bitwise_xor(hashes, hashes[at]).view(np.uint64))
        bits[at] = _BITS + 1
        nearest = np.argsort(bits, kind="stable")[:count]
        return [(int(ids[one]), float(bits[one])) for one in nearest.tolist() if bits[one] <= _BITS]

    def _read(self, ids: Sequence[int] | RowIds, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        for start in range(0, len(ids), _AT_ONCE):
            some = ", ".join(str(int(one)) for one in ids[start : start + _AT_ONCE])
            scanner = self.dataset.scanner(
                columns=list(columns),
                filter=f"{ROW_ID} in ({some})",
                with_row_id=True,
                blob_handling="all_binary",
            )
            for batch in scanner.to_batches():
                yield from in_pythons_times(batch).to_pylist()


def _order(column: pa.ChunkedArray, descending: bool, first: int | None) -> npt.NDArray[np.int64]:
    values = column.combine_chunks()
    # Of these Arrow knows no order.
    if pa.types.is_boolean(values.type):
        values = pc.cast(values, pa.uint8())
    if pa.types.is_float16(values.type):
        values = pc.cast(values, pa.float32())
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    has_value = pc.is_valid(values).to_numpy(zero_copy_only=False)
    there = np.flatnonzero(has_value)
    order = there[_order_of(values.drop_null(), "descending" if descending else "ascending", first)]
    if first is not None and len(order) >= first:
        return order
    return np.concatenate([order, np.flatnonzero(~has_value)])


def _order_of(values: pa.Array, order: str, first: int | None) -> npt.NDArray[np.int64]:
    """Order values of which none is null; of equal ones the first come first, however many are asked for."""
    if first is None or first >= len(values):
        indices: npt.NDArray[np.int64] = (
            pc.array_sort_indices(values, order=order).to_numpy().astype(np.int64)
        )
        return indices
    if not first:
        return np.empty(0, np.int64)
    # Its own order of equal values is none: it is only asked for the value at the border.
    chosen = pc.select_k_unstable(values, first, [("", order)])
    border = values[chosen[first - 1].as_py()]
    is_before = (pc.greater if order == "descending" else pc.less)(values, border)
    before = np.flatnonzero(is_before.to_numpy(zero_copy_only=False))
    before = before[_order_of(values.take(pa.array(before)), order, None)]
    equal = np.flatnonzero(pc.equal(values, border).to_numpy(zero_copy_only=False))
    return np.concatenate([before, equal[: first - len(before)]])
