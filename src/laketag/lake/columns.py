"""Column files: the new columns of one fragment, as long as it is, verified before they are committed."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from laketag.errors import CommitError
from laketag.lake.location import Location
from laketag.lake.session import delete_file, session_of
from laketag.times import in_pythons_times

if TYPE_CHECKING:
    from lance.file import LanceFileReader

_WHOLE_BYTES = 1 << 20
"""What is written up to here is kept, and every value of it held against what is read back."""
_READ_ROWS = 1 << 16
_SAMPLED_BATCHES = 32
_SAMPLED_ROWS = 8  # of each of these batches


@dataclass(frozen=True)
class ColumnFile:
    """A file under `data/` that no version refers to yet."""

    name: str
    """Its name below `data/`."""
    rows: int
    """Rows written: the fragment's physical rows."""
    size: int
    """Bytes."""
    beside: int = 0
    """Bytes of blobs in files of their own."""
    full: tuple[str, ...] = ()
    """Columns that were seen to be null nowhere."""


def write_column_file(
    location: Location, storage_version: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> ColumnFile:
    """Write the columns of one fragment in physical order.

    Args:
        location: the dataset's.
        storage_version: the dataset's `data_storage_version`; a file of another one cannot be attached.
        schema: the exact types.
        batches: together as long as the fragment, null where there is nothing to say.
    """
    name = f"{uuid.uuid4().hex}.lance"
    bare = pa.schema([pa.field(field.name, field.type) for field in schema])
    writer = session_of(location).open_writer(f"data/{name}", schema=bare, version=storage_version)
    for batch in batches:
        writer.write_batch(batch)
    # Not a `with`: leaving one by an exception closes the writer, and a short file would look whole.
    rows = writer.close()
    return ColumnFile(name, rows or 0, writer.size_bytes or 0)


def write_verified(
    location: Location,
    storage_version: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    rows: int,
) -> ColumnFile:
    """Write the columns of one fragment, then read the file back before anyone believes it.

    Rows, types and every value are held against what was given. Of a file above a megabyte it is rows, types,
    nulls, and the values of a sample of rows.

    Raises:
        CommitError: the file is not what was written.
    """
    witness = _Witness()
    file = write_column_file(location, storage_version, schema, witness.watched(batches))
    if witness.whole is None:
        reader = open_verified(location, file, schema, rows)
        _check_sample(location, file, schema, witness=witness, reader=reader)
        return replace(file, full=tuple(name for name in schema.names if not witness.nulls[name]))
    reader = _reader(location, file)
    found = reader.read_all(batch_size=_READ_ROWS).to_batches()
    _require(file, schema, rows, found_schema=found.schema, found_rows=reader.num_rows())
    meant, read = pa.Table.from_batches(witness.whole), found.read_all()
    if not all(read[name].equals(meant[name]) for name in meant.column_names):
        _check(file, _Content.of(meant), _Content.of(read))
    return replace(file, full=tuple(name for name in meant.column_names if not meant[name].null_count))


def open_verified(location: Location, file: ColumnFile, schema: pa.Schema, rows: int) -> LanceFileReader:
    """Open a column file again and hold its rows and types against what they must be.

    Lance validates neither length nor types at commit, and a wrong file makes the dataset unreadable.

    Raises:
        CommitError: it is short, long or of other types.
    """
    reader = _reader(location, file)
    _require(file, schema, rows, found_schema=reader.metadata().schema, found_rows=reader.num_rows())
    return reader


def _require(
    file: ColumnFile, schema: pa.Schema, rows: int, *, found_schema: pa.Schema, found_rows: int
) -> None:
    if found_rows != rows:
        raise CommitError(f"column file {file.name} has {found_rows} rows where the fragment has {rows}")
    found, meant = (
        sorted(zip(each.names, map(str, each.types), strict=True)) for each in (found_schema, schema)
    )
    if found != meant:
        raise CommitError(
            f"column file {file.name} has types {found_schema.types} where {schema.types} were meant"
        )


@dataclass
class _Witness:
    """What passed by while a file was written: all of a small file; of another nulls, and some rows."""

    whole: list[pa.RecordBatch] | None = field(default_factory=list)
    """All that was written; None where that is too much to keep."""
    nulls: Counter[str] = field(default_factory=Counter)
    """By column."""
    rows: list[int] = field(default_factory=list)
    """Indices of the sampled rows in the file."""
    values: list[pa.RecordBatch] = field(default_factory=list)
    """The sampled rows."""
    _bytes: int = 0
    _seen: int = 0

    def watched(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if self.whole is None:
                self._sample(batch)
            else:
                self._keep(self.whole, batch)
            yield batch

    def _keep(self, whole: list[pa.RecordBatch], batch: pa.RecordBatch) -> None:
        whole.append(batch)
        self._bytes += batch.nbytes
        if self._bytes > _WHOLE_BYTES:
            for each in whole:
                self._sample(each)
            self.whole = None

    def _sample(self, batch: pa.RecordBatch) -> None:
        self.nulls.update(_nulls(batch))
        if len(batch) and len(self.values) < _SAMPLED_BATCHES:
            some = [*range(0, len(batch) - 1, -(-len(batch) // _SAMPLED_ROWS)), len(batch) - 1]
            self.rows += [self._seen + row for row in some]
            self.values.append(batch.take(pa.array(some, pa.int64())))
        self._seen += len(batch)

    def read_back(self, reader: LanceFileReader) -> _Content:
        """Count the nulls of a file that was written, and take the sampled rows out of it."""
        nulls: Counter[str] = Counter()
        some, seen, rows = [], 0, np.array(self.rows, np.int64)
        for batch in reader.read_all(batch_size=_READ_ROWS).to_batches():
            nulls.update(_nulls(batch))
            here = rows[(rows >= seen) & (rows < seen + len(batch))] - seen
            some.append(batch.take(pa.array(here)))
            seen += len(batch)
        return _Content(nulls, pa.Table.from_batches(some))


@dataclass(frozen=True)
class _Content:
    """What a file holds, as far as one looks."""

    nulls: Mapping[str, int]
    """By column."""
    values: pa.Table
    """Some rows, or all."""

    @classmethod
    def of(cls, table: pa.Table) -> _Content:
        return cls(_nulls(table), table)


def _check_sample(
    location: Location, file: ColumnFile, schema: pa.Schema, *, witness: _Witness, reader: LanceFileReader
) -> None:
    plain = [each.name for each in schema if not pa.types.is_nested(each.type)]
    if len(plain) == len(schema):
        read = witness.read_back(reader)
    else:
        # Vectors and the like are read back in the sample only: they are what weighs.
        nulls = witness.read_back(_reader(location, file, plain)).nulls if plain else {}
        read = _Content(nulls, reader.take_rows(witness.rows).to_table())
    _check(file, _Content(witness.nulls, pa.Table.from_batches(witness.values)), read)


def _nulls(values: pa.RecordBatch | pa.Table) -> dict[str, int]:
    return {name: values[name].null_count for name in values.schema.names}


def _check(file: ColumnFile, meant: _Content, read: _Content) -> None:
    for name, count in read.nulls.items():
        if count != meant.nulls[name]:
            raise CommitError(
                f"column file {file.name} has {count} nulls in {name!r} where {meant.nulls[name]} were "
                "written; nothing is committed, run the same command again"
            )
    found, wanted = in_pythons_times(read.values), in_pythons_times(meant.values)
    for name in found.column_names:
        # As text: a NaN is equal to itself there.
        if repr(found[name].to_pylist()) != repr(wanted[name].to_pylist()):
            raise CommitError(
                f"column file {file.name} does not hold the values of {name!r} that were written; "
                "nothing is committed, run the same command again"
            )


def _reader(location: Location, file: ColumnFile, columns: list[str] | None = None) -> LanceFileReader:
    return session_of(location).open_reader(f"data/{file.name}", columns)


def delete_data_file(location: Location, name: str) -> None:
    """Delete a file under `data/` that no version refers to; one that is gone is no error."""
    delete_file(location, f"data/{name}")
