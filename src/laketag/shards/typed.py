"""The second data file of a fragment: JSON, text and class columns, typed, made from staged text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from laketag.lake.adding import DataFileOf
from laketag.lake.columns import write_column_file
from laketag.lake.location import Location
from laketag.lake.staged import StagedFiles
from laketag.shards.json_values import Unreadable, column, parse
from laketag.shards.reading import as_integer
from laketag.shards.samples import TEXT_COLUMNS
from laketag.shards.schema import Column

_BATCH_ROWS = 1000


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


def write_typed(task: TypedTask) -> tuple[int, DataFileOf]:
    """Write the file; returns the fragment's place with it."""
    schema = pa.schema([each.field for each in task.columns])
    file = write_column_file(task.location, task.storage_version, schema, _batches(task, schema))
    return task.index, DataFileOf(file.name, tuple(schema.names), file.size)


def _batches(task: TypedTask, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    staged = StagedFiles(task.location, task.folder)
    bare = pa.schema([pa.field(each.name, each.type) for each in schema])
    for part in task.parts:
        table = staged.read(part, list(TEXT_COLUMNS))
        for start in range(0, table.num_rows, _BATCH_ROWS):
            rows = table.slice(start, _BATCH_ROWS)
            texts = {name: rows.column(name).to_pylist() for name in TEXT_COLUMNS}
            yield pa.record_batch(_arrays(texts, task.columns), schema=bare)


def _arrays(texts: dict[str, list[bytes | None]], columns: Sequence[Column]) -> list[pa.Array]:
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
    if pa.types.is_int64(arrow):
        return as_integer(raw)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
