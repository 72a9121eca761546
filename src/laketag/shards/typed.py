"""The second data file of a fragment: JSON, text and class columns, typed.

Whoever reads a shard writes it, with the types of the samples so far. Where other samples turn out to need
other types, it is made once more, from the staged text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from laketag.lake.adding import DataFileOf
from laketag.lake.columns import write_column_file
from laketag.lake.location import Location
from laketag.lake.staged import StagedFiles
from laketag.lake.writing import DataFileWriter
from laketag.shards.json_values import Unreadable, column, parse
from laketag.shards.record import TypedFile
from laketag.shards.samples import TEXT_COLUMNS
from laketag.shards.schema import Column

_BATCH_ROWS = 1000
_INTEGER = re.compile(rb"\s*[+-]?[0-9]{1,19}\s*")

Texts = Mapping[str, Sequence[bytes | None]]
"""The bodies of some samples, by text column."""


@dataclass(frozen=True)
class TypedTask:
    """One fragment's text."""

    index: int
    """The fragment's place among all new ones."""
    location: Location
    """The dataset's."""
    folder: str
    """Where the text is staged."""
    storage_version: str
    """Lance's file format."""
    parts: tuple[str, ...]
    """The staged text files, in row order."""
    columns: tuple[Column, ...]
    """What to make of them."""


def is_typed(source: Column) -> bool:
    """Whether a column is made from staged text."""
    origin, _, what = source.source.partition(":")
    return origin in ("json", "bytes") or (origin == "member" and what in TEXT_COLUMNS)


class TypedWriter:
    """Writes the second file of one fragment after another while their first ones are written."""

    def __init__(self, location: Location, storage_version: str) -> None:
        """Write nothing yet."""
        self._location, self._storage_version = location, storage_version
        self._file: DataFileWriter | None = None
        self._columns: tuple[tuple[str, str], ...] | None = None  # of the fragment at hand

    def write(self, texts: Texts, columns: Sequence[Column]) -> None:
        """Add rows, as the columns that are known by now; a column without a value is left to the commit."""
        columns = [each for each in columns if each.kind != "null"]
        described = tuple((each.source, str(each.arrow)) for each in columns)
        if self._columns is None:
            self._columns = described
            if columns:
                self._file = DataFileWriter(self._location, self._storage_version, _bare(columns))
        elif self._columns != described:
            self.abort()  # what is written already would have to be otherwise
        if self._file is not None:
            for batch in _batches(texts, columns):
                self._file.write(batch)

    def close(self) -> TypedFile | None:
        """End the fragment; returns its file, None where it must be made from the staged text."""
        file, columns, self._file, self._columns = self._file, self._columns, None, None
        if file is None or columns is None:
            return None
        written = file.close()
        return TypedFile(written.name, written.size, columns)

    def abort(self) -> None:
        """Give the fragment's file up, and delete it."""
        if self._file is not None:
            self._file.abort()
            self._file = None


def fits(file: TypedFile, columns: Mapping[str, Column]) -> bool:
    """Whether a file is what it would be with the columns of the whole import, by source.

    The Arrow type says all: where it is the same for wider values, it makes the same of these.
    """
    return all(source in columns and str(columns[source].arrow) == arrow for source, arrow in file.columns)


def write_typed(task: TypedTask) -> tuple[int, DataFileOf]:
    """Write the file; returns the fragment's place with it."""
    schema = pa.schema([each.field for each in task.columns])
    file = write_column_file(task.location, task.storage_version, schema, _staged_batches(task))
    return task.index, DataFileOf(file.name, tuple(schema.names), file.size)


def _staged_batches(task: TypedTask) -> Iterator[pa.RecordBatch]:
    staged = StagedFiles(task.location, task.folder)
    for part in task.parts:
        table = staged.read(part, list(TEXT_COLUMNS))
        yield from _batches({name: table.column(name).to_pylist() for name in TEXT_COLUMNS}, task.columns)


def _bare(columns: Sequence[Column]) -> pa.Schema:
    return pa.schema([pa.field(each.name, each.arrow) for each in columns])


def _batches(texts: Texts, columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(texts["json"]), _BATCH_ROWS):
        some = {name: values[start : start + _BATCH_ROWS] for name, values in texts.items()}
        yield pa.record_batch(_arrays(some, columns), schema=_bare(columns))


def _arrays(texts: Texts, columns: Sequence[Column]) -> list[pa.Array]:
    objects: list[dict[str, Any]] = []
    if any(each.source.startswith("json:") for each in columns):
        objects = [_parsed(raw) for raw in texts["json"]]
    held = {each.source[7:]: each.arrow for each in columns if each.source.startswith("member:")}
    arrays = []
    for each in columns:
        origin, _, what = each.source.partition(":")
        if origin == "json":
            assert each.kind is not None
            arrays.append(column([row.get(what) for row in objects], each.kind))
        elif origin == "member":
            arrays.append(pa.array([_held(raw, each.arrow) for raw in texts[what]], each.arrow))
        else:
            rest = [None if _held(raw, held[what]) is not None else raw for raw in texts[what]]
            arrays.append(pa.array(rest, each.arrow))
    return arrays


def _parsed(raw: bytes | None) -> dict[str, Any]:
    if raw is None:
        return {}
    try:
        return parse(raw)
    except Unreadable:
        return {}  # The ledger says so since the shard was read.


def _held(raw: bytes | None, arrow: pa.DataType) -> int | str | bytes | None:
    """Give the value as a column of this type holds it; None where it cannot."""
    if raw is None or pa.types.is_binary(arrow):
        return raw
    if pa.types.is_integer(arrow):
        return _of_a_width(as_integer(raw), arrow)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _of_a_width(value: int | None, arrow: pa.DataType) -> int | None:
    try:
        pa.scalar(value, arrow)
    except (pa.ArrowInvalid, OverflowError):
        return None
    return value


def text_kind(column: str, body: bytes) -> str:
    """Say what holds the body: `int`, `utf8` or `bytes`."""
    if column == "cls" and as_integer(body) is not None:
        return "int"
    try:
        body.decode()
    except UnicodeDecodeError:
        return "bytes"
    return "utf8"


def as_integer(body: bytes) -> int | None:
    """Read a class number; None where it is none that an int64 holds."""
    value = int(body) if _INTEGER.fullmatch(body) else None
    return value if value is not None and -(1 << 63) <= value < 1 << 63 else None
