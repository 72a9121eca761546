"""Column files: the new columns of one fragment, as long as it is, verified before they are committed."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from laketag.errors import CommitError
from laketag.lake.location import Location
from laketag.lake.session import delete_file, session_of

if TYPE_CHECKING:
    from lance.file import LanceFileReader

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

    Rows, types and nulls are held against what was given, and the values of a sample of rows.

    Raises:
        CommitError: the file is not what was written.
    """
    witness = _Witness()
    file = write_column_file(location, storage_version, schema, witness.watched(batches))
    reader = open_verified(location, file, schema, rows)
    plain = [each.name for each in schema if not pa.types.is_nested(each.type)]
    if len(plain) == len(schema):
        witness.check(file, *witness.read_back(reader))
    else:
        # Vectors and the like are read back in the sample only: they are what weighs.
        nulls, _ = witness.read_back(_reader(location, file, plain)) if plain else ({}, None)
        witness.check(file, nulls, reader.take_rows(witness.rows).to_table() if witness.rows else None)
    return file


def open_verified(location: Location, file: ColumnFile, schema: pa.Schema, rows: int) -> LanceFileReader:
    """Open a column file again and hold its rows and types against what they must be.

    Lance validates neither length nor types at commit, and a wrong file makes the dataset unreadable.

    Raises:
        CommitError: it is short, long or of other types.
    """
    reader = _reader(location, file)
    found = reader.metadata().schema
    if reader.num_rows() != rows:
        raise CommitError(
            f"column file {file.name} has {reader.num_rows()} rows where the fragment has {rows}"
        )
    wrong = [f.name for f in schema if found.names.count(f.name) != 1 or found.field(f.name).type != f.type]
    if wrong or len(found) != len(schema):
        raise CommitError(f"column file {file.name} has types {found.types} where {schema.types} were meant")
    return reader


@dataclass
class _Witness:
    """What passed by while a file was written: nulls of every column, values of some rows."""

    nulls: dict[str, int] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    """Indices of the sampled rows in the file."""
    values: list[pa.RecordBatch] = field(default_factory=list)
    _seen: int = 0

    def watched(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                self.nulls[name] = self.nulls.get(name, 0) + column.null_count
            if len(batch) and len(self.values) < _SAMPLED_BATCHES:
                some = [*range(0, len(batch) - 1, -(-len(batch) // _SAMPLED_ROWS)), len(batch) - 1]
                self.rows += [self._seen + row for row in some]
                self.values.append(batch.take(pa.array(some, pa.int64())))
            self._seen += len(batch)
            yield batch

    def read_back(self, reader: LanceFileReader) -> tuple[dict[str, int], pa.Table | None]:
        """Count the nulls of a file that was written, and take the sampled rows out of it."""
        nulls: Counter[str] = Counter()
        some, seen, rows = [], 0, np.array(self.rows, np.int64)
        for batch in reader.read_all(batch_size=1 << 16).to_batches():
            nulls.update({name: batch[name].null_count for name in batch.schema.names})
            here = rows[(rows >= seen) & (rows < seen + len(batch))] - seen
            some.append(batch.take(pa.array(here)))
            seen += len(batch)
        return nulls, pa.Table.from_batches(some) if some else None

    def check(self, file: ColumnFile, nulls: Mapping[str, int], read: pa.Table | None) -> None:
        if not self.rows or read is None:
            return
        for name, count in nulls.items():
            if count != self.nulls[name]:
                raise CommitError(
                    f"column file {file.name} has {count} nulls in {name!r} where "
                    f"{self.nulls[name]} were written; nothing is committed, run the same command again"
                )
        for name in read.column_names:
            meant = [value for batch in self.values for value in batch[name].to_pylist()]
            # As text: a NaN is equal to itself there.
            if repr(read[name].to_pylist()) != repr(meant):
                raise CommitError(
                    f"column file {file.name} does not hold the values of {name!r} that were written; "
                    "nothing is committed, run the same command again"
                )


def _reader(location: Location, file: ColumnFile, columns: list[str] | None = None) -> LanceFileReader:
    return session_of(location).open_reader(f"data/{file.name}", columns)


def delete_data_file(location: Location, name: str) -> None:
    """Delete a file under `data/` that no version refers to; one that is gone is no error."""
    delete_file(location, f"data/{name}")
