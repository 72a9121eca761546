"""The labels of one tagger for one chunk, as they grow batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from laketag.taggers.budget import size_of
from laketag.taggers.feed import Prepared
from laketag.taggers.predicting import Begun, Predictor
from laketag.taggers.protocol import failed_values, label_schema
from laketag.taggers.rows import Labels


class Sheet:
    """Rows in the chunk's order; each is failed, pending in the next batch, or labelled."""

    def __init__(self, predictor: Predictor, batch_bytes: int) -> None:
        """Start empty; a batch ends at so many bytes, where it is not full before."""
        self._predictor = predictor
        self._batch_bytes = batch_bytes
        self._positions: list[int] = []
        self._digests: list[int] = []
        self._errors: list[str | None] = []
        self._places: list[int] = []  # of a row in all rows labelled, -1 where it is not
        self._labelled: list[pa.RecordBatch] = []
        self._count = 0
        self._pending: list[int] = []
        self._values: list[Any] = []
        self._bytes = 0
        self._begun: tuple[list[int], Begun] | None = None  # rows at work: begun, and not waited for

    def add(self, prepared: Prepared, stop: Callable[[], bool]) -> None:
        """Take rows in and predict every batch that is full; after `stop` the rest is left out."""
        rows = zip(prepared.positions, prepared.digests, prepared.errors, prepared.values, strict=True)
        for position, digest, error, value in rows:
            row = len(self._positions)
            self._positions.append(position)
            self._digests.append(digest)
            self._errors.append(error)
            self._places.append(-1)
            if error is not None:
                continue
            self._pending.append(row)
            self._values.append(value)
            self._bytes += size_of(value)
            # Cut by the rows' own bytes alone, so that the batches are the same in every run.
            if len(self._values) >= self._predictor.batch_size or self._bytes >= self._batch_bytes:
                self._begin()
                if stop():
                    return

    def flush(self) -> None:
        """Predict what is pending, and wait for all of it."""
        self._begin()
        self._wait()

    def _begin(self) -> None:
        """Give what is pending to the model, then wait for the batch before it, or else for this one."""
        if not self._values:
            return
        rows, self._pending = self._pending, []
        values, self._values, self._bytes = self._values, [], 0
        begun = self._predictor.begin(values)
        self._wait()
        self._begun = rows, begun
        if not self._predictor.works_ahead:
            self._wait()

    def _wait(self) -> None:
        if self._begun is None:
            return
        (rows, begun), self._begun = self._begun, None
        start = 0
        for piece in self._predictor.finish(begun):
            of_piece = rows[start : start + piece.rows]
            start += piece.rows
            for row in of_piece:
                self._errors[row] = piece.error
            if piece.batch is not None:
                for place, row in enumerate(of_piece, self._count):
                    self._places[row] = place
                self._labelled.append(piece.batch)
                self._count += piece.rows

    def cut(self) -> Labels:
        """Wait for what is at work and give the rows up to there; those that are pending are left out."""
        self._wait()
        return self.taken()

    @property
    def settled(self) -> int:
        """Count the rows before the first that is at work or pending: the next run's batches start there."""
        rows = self._pending if self._begun is None else self._begun[0]
        return rows[0] if rows else len(self)

    def taken(self) -> Labels:
        """Give the rows that are settled, and forget them."""
        count, done = self.settled, copy(self)
        done._positions, self._positions = self._positions[:count], self._positions[count:]
        done._digests, self._digests = self._digests[:count], self._digests[count:]
        done._errors, self._errors = self._errors[:count], self._errors[count:]
        done._places, self._places = self._places[:count], self._places[count:]
        self._labelled, self._count = [], 0
        self._pending = [row - count for row in self._pending]
        if self._begun is not None:
            rows, begun = self._begun
            self._begun = [row - count for row in rows], begun
        return done.labels(is_whole=False)

    def labels(self, *, is_whole: bool) -> Labels:
        """Put the rows together; nothing is pending any more."""
        tagger = self._predictor.tagger
        schema = pa.schema([pa.field(field.name, field.type) for field in tagger.columns])
        whole = pa.Table.from_batches(self._labelled, schema).combine_chunks()
        places = np.array(self._places, np.int64)
        errors, rows = self._errors, np.flatnonzero(places >= 0)
        for field in tagger.columns:
            column = pa.concat_arrays(whole.column(field.name).chunks) if self._count else None
            for place, what in _unlabelled(column):
                row = rows[place]
                errors[row] = errors[row] or f"the tagger returned {what} for {field.name}"
        failed = np.fromiter((error is not None for error in errors), np.bool_, len(errors))
        take = pa.array(places, mask=failed)
        told = failed_values(tagger)
        arrays = [_taken(whole.column(name), take) for name in tagger.columns.names]
        for number, name in enumerate(tagger.columns.names):
            if name in told:
                arrays[number] = pc.if_else(pa.array(failed), told[name], arrays[number])
        arrays += [pa.array(errors, pa.string()), pa.array(self._digests, pa.int64())]
        batch = pa.RecordBatch.from_arrays(arrays, schema=label_schema(tagger))
        return Labels(np.array(self._positions, np.int64), batch, is_whole)

    def __len__(self) -> int:
        """Count its rows, pending ones too."""
        return len(self._positions)


def _taken(column: pa.ChunkedArray, take: pa.Array) -> pa.Array:
    taken = column.take(take)
    return pa.concat_arrays(taken.chunks) if taken.num_chunks else pa.nulls(len(take), column.type)


def _unlabelled(column: pa.Array | None) -> list[tuple[int, str]]:
    """List the rows whose value is null, is NaN, or is a list that holds one, and which it is."""
    if column is None:
        return []
    found = [(int(row), "null") for row in np.flatnonzero(_nulls(column))]
    if kinds.is_floating(column.type):
        found += [(int(row), "NaN") for row in np.flatnonzero(_nans(column))]
    elif _is_list(column.type) and kinds.is_floating(column.type.value_type):
        values, parents = column.flatten(), pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
        found += [(int(row), "null") for row in np.unique(parents[_nulls(values)])]
        found += [(int(row), "NaN") for row in np.unique(parents[_nans(values)])]
    return found


def _nulls(column: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False), np.bool_)


def _nans(column: pa.Array) -> npt.NDArray[np.bool_]:
    # By numpy, where nulls are NaN too: before 21 Arrow cannot tell it of float16.
    found: npt.NDArray[np.bool_] = np.isnan(column.to_numpy(zero_copy_only=False))
    return found


def _is_list(kind: pa.DataType) -> bool:
    return bool(kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind))
