"""Data files of new rows, written straight into `data/`; they belong to no version until they are added."""

from __future__ import annotations

import queue
import threading
import uuid
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from laketag.errors import CommitError
from laketag.lake import objects
from laketag.lake.columns import ColumnFile, delete_data_file
from laketag.lake.dataset import exists, path_of
from laketag.lake.explaining import first_line
from laketag.lake.links import REFERENCE
from laketag.lake.location import Location
from laketag.lake.session import many, session_of

STORAGE_VERSION = "2.2"
"""The file format of a dataset that laketag makes."""
AS_IT_IS = {b"lance-encoding:compression": b"none"}
"""Field metadata of bytes that are compressed already: Lance's own attempt takes 4 CPU seconds a gigabyte to
write them, and makes reading them slower by a third."""
_CACHE_PER_COLUMN = 1 << 20
_NO_LIMIT = (1 << 31) - 1
"""Rows of a file: whoever writes it ends it. Lance's own limit is a million."""


def dataset_schema(fields: Sequence[pa.Field], blobs: Collection[str]) -> pa.Schema:
    """Make a dataset's schema; the columns named in `blobs` become Lance's blobs (v2)."""
    if not blobs:
        return pa.schema(fields)
    from lance.blob import blob_field

    return pa.schema([blob_field(f.name).with_metadata(f.metadata) if f.name in blobs else f for f in fields])


class DataFileWriter:
    """Writes one data file, batch by batch; the file belongs to no version."""

    def __init__(self, location: Location, storage_version: str, schema: pa.Schema) -> None:
        """Open a file for columns of these types."""
        self._location = location
        self._name = f"{uuid.uuid4().hex}.lance"
        # A batch above a column's cache becomes a page as it is; below it, Lance copies batches together, at
        # a third of the speed.
        self._writer = session_of(location).open_writer(
            f"data/{self._name}",
            schema=schema,
            version=storage_version,
            data_cache_bytes=_CACHE_PER_COLUMN * len(schema),
        )

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        self._writer.write_batch(batch)

    def close(self) -> ColumnFile:
        """Finish the file."""
        rows = self._writer.close()
        return ColumnFile(self._name, rows or 0, self._writer.size_bytes or 0)

    def abort(self) -> None:
        """Give the file up."""
        self._writer.close()
        delete_data_file(self._location, self._name)


class BlobFileWriter:
    """Writes one data file with blob columns; Lance pulls the batches, so it runs in a thread."""

    def __init__(
        self, location: Location, storage_version: str, schema: pa.Schema, blobs: Collection[str]
    ) -> None:
        """Open a file; the columns named in `blobs` come as binary or as references, and become blobs."""
        self._blobs = frozenset(blobs)
        self._schema = dataset_schema(list(schema), blobs)
        self._batches: queue.Queue[pa.RecordBatch | None] = queue.Queue(2)
        self._error: BaseException | None = None
        self._file: ColumnFile | None = None
        self._thread = threading.Thread(target=self._write, args=(location, storage_version), daemon=True)
        self._thread.start()

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        self._put(batch)

    def close(self) -> ColumnFile:
        """Finish the file."""
        self._put(None)
        self._thread.join()
        if self._file is None:
            raise self._failure()
        return self._file

    def abort(self) -> None:
        """Give the file up; what is written is found by `clean`."""
        self._put(None)
        self._thread.join()

    def _put(self, batch: pa.RecordBatch | None) -> None:
        while self._thread.is_alive():
            try:
                self._batches.put(batch, timeout=0.2)
            except queue.Full:
                continue
            return
        if batch is not None:
            raise self._failure()

    def _failure(self) -> CommitError:
        assert self._error is not None
        failure = CommitError(f"a data file could not be written: {first_line(self._error)}")
        failure.__cause__ = self._error
        return failure

    def _write(self, location: Location, storage_version: str) -> None:
        from lance.fragment import write_fragments

        try:
            fragments = write_fragments(
                pa.RecordBatchReader.from_batches(self._schema, self._stored()),
                location.uri,
                schema=self._schema,
                # This commits nothing; "append" would hold the file against the dataset's schema of now.
                mode="overwrite" if exists(location) else "create",
                data_storage_version=storage_version,
                storage_options=dict(location.storage_options),
                max_rows_per_file=_NO_LIMIT,
                allow_external_blob_outside_bases=True,
            )
            [fragment] = fragments
            [file] = fragment.files
            name, size = path_of(file), file.file_size_bytes or 0
            beside = _size_below(location, f"data/{name.removesuffix('.lance')}")
            self._file = ColumnFile(name, fragment.physical_rows, size, beside)
        # The boundary of the thread: whatever it is, the writing thread raises it.
        except BaseException as error:
            self._error = error

    def _stored(self) -> Iterator[pa.RecordBatch]:
        while (batch := self._batches.get()) is not None:
            yield pa.record_batch(
                [
                    _blobs(column) if name in self._blobs else column
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                ],
                schema=self._schema,
            )


def _size_below(location: Location, folder: str) -> int:
    """Add up the files in a folder; 0 where there is none, or the store tells no sizes."""
    if location.is_local:
        return sum(each.stat().st_size for each in Path(location.uri, folder).glob("*"))
    if location.scheme not in objects.SCHEMES:
        return 0
    place = Location(f"{location.uri}/{folder}", location.storage_options)
    return sum(each.size for each in objects.list_objects(place))


def _blobs(column: pa.Array) -> pa.Array:
    """Make blobs of a column of bytes, or of references into tars; what is empty there is empty bytes.

    Lance's own `blob_array` takes Python values, one by one.
    """
    from lance.blob import BlobType

    kind = BlobType()
    data, tar, offset, size = (field.type for field in kind.storage_type)
    if column.type != REFERENCE:
        children = [column.cast(data), *(pa.nulls(len(column), each) for each in (tar, offset, size))]
    else:
        sizes = column.field("size")
        is_empty = pc.equal(sizes, 0)
        nothing = pa.repeat(pa.scalar(b"", data), len(column))
        children = [pc.if_else(is_empty, nothing, pa.scalar(None, data))]
        for name, each in (("tar", tar), ("offset", offset), ("size", size)):
            children.append(pc.if_else(is_empty, pa.scalar(None, each), column.field(name).cast(each)))
    names = [field.name for field in kind.storage_type]
    storage = pa.StructArray.from_arrays(children, names=names, mask=column.is_null())
    return pa.ExtensionArray.from_storage(kind, storage)


def have_data_files(location: Location, names: Sequence[str]) -> bool:
    """Whether every file is there under `data/`."""
    session = session_of(location)
    return all(many(location, session.contains, [f"data/{name}" for name in names]))
