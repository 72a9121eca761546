"""Samples become data files: buffered to batches, rolled over to fragments of a sane size."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from laketag.lake.columns import delete_data_file
from laketag.lake.links import REFERENCE, address
from laketag.lake.location import Location
from laketag.lake.presence import KEY
from laketag.lake.staged import StagedFiles
from laketag.lake.writing import BlobFileWriter, DataFileWriter
from laketag.shards.bodies import binary
from laketag.shards.form import ROW_FIELDS, Form, storage_metadata
from laketag.shards.record import Piece
from laketag.shards.samples import TEXT_COLUMNS, Sample
from laketag.shards.schema import Column
from laketag.shards.typed import TypedWriter

FRAGMENT_BYTES = 2 << 30
_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 1000
_PART_BYTES = 32 << 20
_ROOM = 60  # what a short text takes beside its bytes


@dataclass
class FragmentWriter:
    """Takes samples one by one and writes fragments; nothing of it is seen by a reader."""

    location: Location
    staged: StagedFiles
    form: Form
    typed: Callable[[], Sequence[Column]]
    """Says what the samples so far make of JSON and text."""
    written: int = 0
    """Bytes written so far."""
    pieces: list[Piece] = field(default_factory=list)
    """Finished fragments."""
    _columns: list[str] = field(default_factory=list)
    _samples: list[tuple[str, Sample]] = field(default_factory=list)
    _size: int = 0
    _file: DataFileWriter | BlobFileWriter | None = None
    _rows: int = 0
    _bytes: int = 0
    _texts: dict[str, list[Any]] = field(default_factory=dict)
    """Keys and text of the rows, by column: so many samples would keep the garbage collector busy."""
    _text_size: int = 0
    _parts: list[str] = field(default_factory=list)
    _typed_file: TypedWriter = field(init=False)

    def __post_init__(self) -> None:
        self._typed_file = TypedWriter(self.location, self.form.storage_version)

    def add(self, url: str, sample: Sample) -> None:
        """Add one row."""
        self._samples.append((url, sample))
        self._size += sum(map(len, sample.members.values()))
        is_full = self._rows + len(self._samples) >= self.form.rows_per_fragment
        if is_full or self._size >= _BATCH_BYTES or len(self._samples) >= _BATCH_ROWS:
            self._flush()
        if is_full or self._bytes >= FRAGMENT_BYTES:
            self._finish()

    def close(self) -> list[Piece]:
        """Finish the last fragment; returns all."""
        self._flush()
        self._finish()
        return self.pieces

    def abort(self) -> None:
        """Give up the fragment at hand, and delete what was finished."""
        if self._file is not None:
            self._file.abort()
        self._typed_file.abort()
        for piece in self.pieces:
            for name in piece.files:
                delete_data_file(self.location, name)
            self.staged.delete(piece.parts)
        self.staged.delete(self._parts)

    def _flush(self) -> None:
        if not self._samples:
            return
        new = {
            column: None
            for _, sample in self._samples
            for column in (*sample.members, *sample.places)
            if column not in TEXT_COLUMNS
        }
        if unknown := [column for column in new if column not in self._columns]:
            # A data file's columns are fixed; what a later shard brings begins a new fragment.
            self._finish()
            self._columns += unknown
        table = self._table()
        if self._file is None:
            self._file = self._open(table.schema)
        for batch in table.to_batches():
            self._file.write(batch)
        self._rows += table.num_rows
        self._bytes += self._size
        for column, values in self._text_columns().items():
            self._texts.setdefault(column, []).extend(values)
            self._text_size += sum(_ROOM + len(value) for value in values if value is not None)
        self._samples, self._size = [], 0
        if self._text_size >= _PART_BYTES:
            self._stage_part()

    def _text_columns(self) -> dict[str, list[Any]]:
        samples = [sample for _, sample in self._samples]
        texts = {column: [each.members.get(column) for each in samples] for column in TEXT_COLUMNS}
        return {KEY: [sample.key for sample in samples], **texts}

    def _table(self) -> pa.Table:
        samples = self._samples
        arrays = [
            pa.array([sample.key for _, sample in samples], pa.string()),
            pa.array([url for url, _ in samples], pa.string()),
            pa.array([sample.offset for _, sample in samples], pa.int64()),
        ]
        fields = list(ROW_FIELDS)
        for column in self._columns:
            # What is written is let go at once: only the text waits for the fragment's end.
            arrays.append(self._values(column))
            fields.append(pa.field(f"member {column}", arrays[-1].type, metadata=storage_metadata(column)))
        return pa.table(arrays, schema=pa.schema(fields))

    def _values(self, column: str) -> pa.Array | pa.ChunkedArray:
        if not self.form.is_linked(column):
            return binary([sample.members.pop(column, None) for _, sample in self._samples])
        places = [sample.places.get(column) for _, sample in self._samples]
        tars = [address(url) for url, _ in self._samples]
        offsets, sizes = ([place and place[at] for place in places] for at in (0, 1))
        values = (pa.array(each, f.type) for each, f in zip((tars, offsets, sizes), REFERENCE, strict=True))
        is_missing = pa.array([place is None for place in places])
        return pa.StructArray.from_arrays(list(values), fields=list(REFERENCE), mask=is_missing)

    def _open(self, schema: pa.Schema) -> DataFileWriter | BlobFileWriter:
        blobs: Collection[str] = [f"member {column}" for column in self._columns if self.form.is_blob(column)]
        if blobs:
            return BlobFileWriter(self.location, self.form.storage_version, schema, blobs)
        return DataFileWriter(self.location, self.form.storage_version, schema)

    def _stage_part(self) -> None:
        name = f"part-{uuid.uuid4().hex}.lance"
        kinds = {KEY: pa.string(), **dict.fromkeys(TEXT_COLUMNS, pa.binary())}
        columns = {column: pa.array(self._texts[column], kind) for column, kind in kinds.items()}
        self.written += self.staged.write(name, pa.table(columns))
        self._typed_file.write(self._texts, self.typed())
        self._parts.append(name)
        self._texts, self._text_size = {}, 0

    def _finish(self) -> None:
        if self._file is None:
            return
        if self._texts:
            self._stage_part()
        file, typed = self._file.close(), self._typed_file.close()
        self.written += file.size + file.beside + (typed.size if typed else 0)
        names = [each.name for each in ROW_FIELDS] + self._columns
        self.pieces.append(Piece(file.name, file.size, file.rows, tuple(names), tuple(self._parts), typed))
        self._file, self._rows, self._bytes, self._parts = None, 0, 0, []
