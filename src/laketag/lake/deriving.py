"""Values of an SQL expression for every row, as column files that belong to no version yet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laketag.errors import BadSQL, ColumnError
from laketag.lake import sql
from laketag.lake.columns import ColumnFile, write_verified
from laketag.lake.committing import FragmentColumns, delete_unused
from laketag.lake.dataset import fragments_of, path_of
from laketag.lake.explaining import first_line, sql_explained
from laketag.lake.location import Location
from laketag.lake.reading import address

if TYPE_CHECKING:
    from lance import LanceDataset
    from lance.fragment import FragmentMetadata

_ADDRESS = "_rowaddr"
# With more changed fragments than this, one pass over all is cheaper than a filter that names each.
_MOST_NAMED = 100


@dataclass
class Derivation:
    """Column files of an expression for the dataset as it is at each attempt to commit."""

    location: Location
    name: str
    """The column's."""
    expression: str
    made: dict[tuple[object, ...], ColumnFile] = field(default_factory=dict)
    used: list[FragmentColumns] = field(default_factory=list)

    def type(self, dataset: LanceDataset) -> pa.DataType:
        """Find the type that the expression has, without reading a row.

        Raises:
            BadSQL: it cannot be run.
            ColumnError: no column can have such a type.
        """
        kind = _storable(self._reader(dataset, []).schema.field(self.name).type)
        if pa.types.is_null(kind):
            raise ColumnError(
                f"{self.expression!r} is null for every row, so it has no type; give it one: "
                f"cast({self.expression} as string)"
            )
        if pa.types.is_nested(kind):
            raise ColumnError(
                f"{self.expression!r} gives {kind}; only plain values become a column: take one out of it"
            )
        return kind

    def prepare(self, dataset: LanceDataset, kind: pa.DataType) -> list[FragmentColumns]:
        """Make a verified column file for every fragment; only what changed is evaluated again.

        Raises:
            BadSQL: the expression does not give one value for each row.
            ColumnError: a value does not fit the type.
        """
        keys = {each.id: _key(each) for each in fragments_of(dataset)}
        if not self._is_rowwise():
            # A window or a subquery looks at other rows: what changed elsewhere changes every value.
            keys = {fragment: (*key, dataset.version) for fragment, key in keys.items()}
        missing = [fragment for fragment, key in keys.items() if key not in self.made]
        for fragment, values in self._complete(dataset, missing, kind):
            self.made[keys[fragment]] = self._write(dataset, fragment, values)
        self.used = [FragmentColumns(fragment, self.made[key]) for fragment, key in keys.items()]
        return self.used

    def drop_unused(self) -> None:
        """Delete the column files of attempts that lost to another writer."""
        delete_unused(self.location, self.made.values(), self.used)

    def _is_rowwise(self) -> bool:
        return not re.search(r"\b(over|select)\b", self.expression, re.IGNORECASE)

    def _complete(
        self, dataset: LanceDataset, fragments: list[int], kind: pa.DataType
    ) -> Iterator[tuple[int, pa.Array]]:
        """Give each fragment's values by physical offset, as soon as all of its rows were seen.

        Lance gives batches in an order of its own, so what has come of a fragment waits for the rest.
        """
        known = {each.id: each for each in fragments_of(dataset)}
        waiting = {fragment: _Values(known[fragment].num_rows) for fragment in fragments}
        batches = self._batches(dataset, fragments) if fragments else ()
        for batch in batches:
            for fragment, offsets, values in _split(batch, self.name):
                if fragment not in waiting:
                    raise self._not_one_each()
                waiting[fragment].add(offsets, _cast(values, kind, self.name))
                if waiting[fragment].is_complete:
                    yield fragment, waiting.pop(fragment).laid(known[fragment].physical_rows, self)
        if waiting:
            raise self._not_one_each()

    def _batches(self, dataset: LanceDataset, fragments: list[int]) -> Iterator[pa.RecordBatch]:
        with sql_explained(dataset.uri, "expression", self.expression):
            yield from self._reader(dataset, fragments)

    def _reader(self, dataset: LanceDataset, fragments: list[int]) -> pa.RecordBatchReader:
        # On lines of its own, so that a comment at its end takes nothing along.
        expression = sql.for_query(self.expression, dataset.schema.names)
        text = f'select (\n{expression}\n) as "{self.name}", {_ADDRESS} from dataset'
        if fragments and self._is_rowwise() and len(fragments) <= _MOST_NAMED:
            text += " where " + " or ".join(map(_within, fragments))
        with sql_explained(dataset.uri, "expression", self.expression):
            query = dataset.sql(text).with_row_addr().blob_handling("all_binary").build()
            reader = query.to_stream_reader()
        if reader.schema.names != [self.name, _ADDRESS]:
            raise BadSQL(f"{self.expression!r} is not one expression; give one value for each row")
        return reader

    def _write(self, dataset: LanceDataset, fragment: int, values: pa.Array) -> ColumnFile:
        schema = pa.schema([(self.name, values.type)])
        batch = pa.record_batch([values], schema=schema)
        return write_verified(self.location, dataset.data_storage_version, schema, [batch], rows=len(values))

    def _not_one_each(self) -> BadSQL:
        return BadSQL(
            f"{self.expression!r} does not give one value for each row; take unnest and the like out"
        )


class _Values:
    """What has come of one fragment."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.offsets: list[npt.NDArray[np.int64]] = []
        self.values: list[pa.Array] = []
        self.rows = 0

    def add(self, offsets: npt.NDArray[np.int64], values: pa.Array) -> None:
        self.offsets.append(offsets)
        self.values.append(values)
        self.rows += len(values)

    @property
    def is_complete(self) -> bool:
        return self.rows >= self.expected

    def laid(self, length: int, derivation: Derivation) -> pa.Array:
        """Lay the values out by offset, null where a row was deleted."""
        offsets = np.concatenate(self.offsets)
        if len(np.unique(offsets)) != self.expected or self.rows != self.expected:
            raise derivation._not_one_each()
        source: npt.NDArray[np.int64] = np.full(length, -1, np.int64)
        source[offsets] = np.arange(len(offsets))
        return pa.concat_arrays(self.values).take(pa.array(source, mask=source < 0))


def _key(fragment: FragmentMetadata) -> tuple[object, ...]:
    files = tuple((path_of(file), tuple(file.fields)) for file in fragment.files)
    return (fragment.id, fragment.physical_rows, files)


def _within(fragment: int) -> str:
    return f"({_ADDRESS} >= {address(fragment, 0)} and {_ADDRESS} < {address(fragment + 1, 0)})"


def _split(batch: pa.RecordBatch, name: str) -> Iterable[tuple[int, npt.NDArray[np.int64], pa.Array]]:
    """Cut a batch where the fragment changes."""
    addresses = batch[_ADDRESS].to_numpy().astype(np.int64)
    fragments = addresses >> 32
    cuts = [0, *(np.flatnonzero(np.diff(fragments)) + 1).tolist(), len(addresses)]
    for start, stop in pairwise(cuts):
        if start < stop:
            values = batch[name].slice(start, stop - start)
            yield int(fragments[start]), addresses[start:stop] & 0xFFFFFFFF, values


def _storable(kind: pa.DataType) -> pa.DataType:
    """Give the type that a data file holds for one that only a query has."""
    if pa.types.is_dictionary(kind):
        return _storable(kind.value_type)
    if kind == pa.string_view():
        return pa.string()
    return pa.binary() if kind == pa.binary_view() else kind


def _cast(values: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    try:
        return values if values.type == kind else values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ColumnError(
            f"a value does not fit column {name!r}, which is {kind}: {first_line(error)}; "
            "cast it in the expression, or drop the column first"
        ) from error
