"""Column files: the new columns of one fragment, as long as it is, verified before they are committed."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from laketag.errors import CommitError
from laketag.lake.location import Location


@dataclass(frozen=True)
class ColumnFile:
    """A file under `data/` that no version refers to yet."""

    name: str
    """Its name below `data/`."""
    rows: int
    """Rows written: the fragment's physical rows."""
    size: int
    """Bytes."""


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
    from lance.file import LanceFileWriter

    name = f"{uuid.uuid4().hex}.lance"
    options = dict(location.storage_options)
    bare = pa.schema([pa.field(field.name, field.type) for field in schema])
    writer = LanceFileWriter(
        f"{location.uri}/data/{name}", bare, version=storage_version, storage_options=options
    )
    for batch in batches:
        writer.write_batch(batch)
    # Not a `with`: leaving one by an exception closes the writer, and a short file would look whole.
    rows = writer.close()
    return ColumnFile(name, rows or 0, writer.size_bytes or 0)


def verify_column_file(location: Location, file: ColumnFile, schema: pa.Schema, rows: int) -> None:
    """Open a column file again and hold it against what it must be.

    Lance validates neither length nor types at commit, and a wrong file makes the dataset unreadable.

    Raises:
        CommitError: it is short, long or of other types.
    """
    from lance.file import LanceFileReader

    reader = LanceFileReader(
        f"{location.uri}/data/{file.name}", storage_options=dict(location.storage_options)
    )
    found = reader.metadata().schema
    if reader.num_rows() != rows:
        raise CommitError(
            f"column file {file.name} has {reader.num_rows()} rows where the fragment has {rows}"
        )
    wrong = [f.name for f in schema if found.names.count(f.name) != 1 or found.field(f.name).type != f.type]
    if wrong or len(found) != len(schema):
        raise CommitError(f"column file {file.name} has types {found.types} where {schema.types} were meant")


def delete_data_file(location: Location, name: str) -> None:
    """Delete a file under `data/` that no version refers to; one that is gone is no error."""
    from lance.file import LanceFileSession

    session = LanceFileSession(f"{location.uri}/data", storage_options=dict(location.storage_options))
    if session.contains(name):
        session.delete_file(name)
