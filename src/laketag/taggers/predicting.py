"""Predict, contained: whatever a model does wrong costs the rows concerned their labels, and no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from laketag.errors import DeviceLost
from laketag.taggers.protocol import Model, Tagger
from laketag.taggers.rows import Stats, reason

_OUT_OF_MEMORY = (
    "out of memory",
    "failed to allocate memory",
    "can't allocate memory",
    "bad_alloc",
    "status_alloc_failed",  # cuBLAS and cuDNN
)
# With these CUDA refuses all further work of a process: what fails from then on says nothing of its row.
_LOST = (
    "cuda error",  # what torch puts before all that CUDA says: the rest of it is no fault of a row either
    "device-side assert",
    "hardware stack error",
    "illegal instruction",
    "illegal memory access",
    "invalid program counter",
    "launch timed out",
    "misaligned address",
    "no kernel image",
    "uncorrectable ecc error",
    "uncorrectable nvlink error",
    "unspecified launch failure",
)


class ResultError(Exception):
    """What `predict` returned is not one row of the tagger's columns for each input."""


class WrongRows(ResultError):
    """`predict` returned other than one row for each input; no row can be told to be right."""

    def __init__(self, returned: int, given: int, column: str = "") -> None:
        """Name both numbers, and the column where it is one of several."""
        what = f"{returned:,} values of {column}" if column else f"{returned:,} rows"
        super().__init__(f"predict returned {what} for a batch of {given:,}"[:200])


@dataclass(frozen=True)
class Piece:
    """Some rows in order: their labels, or why all of them have none."""

    rows: int
    batch: pa.RecordBatch | None
    error: str | None


@dataclass(frozen=True)
class _Tried:
    batch: pa.RecordBatch | None = None
    error: str | None = None
    is_memory: bool = False
    is_final: bool = False


@dataclass(frozen=True)
class Begun:
    """A batch that was given to the model and not waited for yet, or that waits to be given to it."""

    values: list[Any]
    wait: Callable[[], Any] | None = None
    """Gives the labels; None where the batch was not begun."""
    failed: _Tried | None = None
    """Why it could not be begun."""


class Predictor:
    """A loaded tagger that remembers how many rows fit into its device's memory."""

    def __init__(self, tagger: Tagger, model: Model, *, batch_size: int, stats: Stats) -> None:
        """Take a tagger with its model; times and counts go to `stats`."""
        self.tagger = tagger
        self.batch_size = batch_size
        self._model = model
        self._schema = pa.schema([pa.field(f.name, f.type) for f in tagger.columns])
        self._fits = batch_size
        self._stats = stats
        self._begin: Callable[[list[Any]], Callable[[], Any]] | None = getattr(model, "begin", None)

    @property
    def works_ahead(self) -> bool:
        """Whether a batch can be begun before the one before it has ended."""
        return self._begin is not None

    def begin(self, values: list[Any]) -> Begun:
        """Start on prepared rows, where the model can; `finish` gives their labels."""
        if self._begin is None or len(values) > self._fits:
            return Begun(values)
        before = perf_counter()
        try:
            return Begun(values, self._begin(list(values)))
        except Exception as error:  # a model raises anything at all
            return Begun(values, failed=self._failure(error))
        finally:
            self._stats.predict_seconds += perf_counter() - before

    def finish(self, begun: Begun) -> list[Piece]:
        """Label rows that were begun; pieces in order, of as many rows together as there are values."""
        if begun.failed is not None:
            return self._pieces(begun.values, begun.failed)
        if begun.wait is not None:
            return self._pieces(begun.values, self._tried(begun.wait, len(begun.values)))
        return self.predict(begun.values)

    def predict(self, values: list[Any]) -> list[Piece]:
        """Label prepared rows, and wait for it; pieces as `finish` gives them."""
        pieces: list[Piece] = []
        start = 0
        while start < len(values):
            piece = values[start : start + self._fits]
            start += len(piece)
            given = list(piece)
            pieces += self._pieces(piece, self._tried(partial(self._model.predict, given), len(piece)))
        return pieces

    def _pieces(self, values: list[Any], tried: _Tried) -> list[Piece]:
        if tried.error is None or tried.is_final or len(values) == 1:
            return [Piece(len(values), tried.batch, tried.error)]
        half = (len(values) + 1) // 2
        if tried.is_memory:
            self._fits = min(self._fits, half)
        return self.predict(values[:half]) + self.predict(values[half:])

    def _tried(self, labels: Callable[[], Any], rows: int) -> _Tried:
        before = perf_counter()
        try:
            batch = fitted(labels(), self._schema, rows=rows)
            self._stats.predicted += rows
            return _Tried(batch)
        except WrongRows as error:
            # Row by row, a function that gives one value for the whole batch would look right.
            return _Tried(error=str(error), is_final=True)
        except ResultError as error:
            return _Tried(error=str(error))
        except Exception as error:  # a model raises anything at all
            return self._failure(error)
        finally:
            self._stats.predict_seconds += perf_counter() - before

    def _failure(self, error: Exception) -> _Tried:
        is_memory = _is_out_of_memory(error)
        if not is_memory and any(sign in str(error).lower() for sign in _LOST):
            raise DeviceLost(
                f"tagger {self.tagger.name} lost its device ({reason(error)}); a new process may use it again"
            ) from error
        # What is known of the error, not the error: its traceback would keep the batch's memory.
        return _Tried(error=reason(error), is_memory=is_memory)


def fitted(result: object, schema: pa.Schema, *, rows: int) -> pa.RecordBatch:
    """Give what `predict` returned with exactly the schema's columns and types.

    Raises:
        ResultError: other rows, other columns, or values that the types cannot hold.
    """
    if not isinstance(result, pa.RecordBatch):
        raise ResultError(f"predict returned a {type(result).__name__}, not a pyarrow RecordBatch")
    if sorted(result.schema.names) != sorted(schema.names):
        raise ResultError(f"predict returned columns {result.schema.names}, not {schema.names}"[:200])
    if result.num_rows != rows:
        raise WrongRows(result.num_rows, rows)
    return pa.RecordBatch.from_arrays([_cast(result.column(f.name), f) for f in schema], schema=schema)


def _cast(column: pa.Array, field: pa.Field) -> pa.Array:
    if column.type == field.type:
        return column
    if not _is_of_a_kind(column.type, field.type):
        raise ResultError(f"predict returned {column.type} for {field.name}, which is {field.type}"[:200])
    try:
        return column.cast(field.type)
    except pa.ArrowException as error:
        text = f"predict returned a value that {field.name} ({field.type}) cannot hold: {error}"
        raise ResultError(" ".join(text.split())[:200]) from error


def _is_of_a_kind(given: pa.DataType, wanted: pa.DataType) -> bool:
    # Arrow would also turn text into numbers and numbers into text: that is a mistake, not a cast.
    if kinds.is_null(given) or (kinds.is_nested(given) and kinds.is_nested(wanted)):
        return True
    if kinds.is_dictionary(given):
        return _is_of_a_kind(given.value_type, wanted)
    return any(
        is_kind(given) and is_kind(wanted)
        for is_kind in (_is_number, _is_text, _is_binary, kinds.is_temporal)
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind))


def _is_out_of_memory(error: Exception) -> bool:
    # By name: torch and onnxruntime are not imported for it.
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(sign in text for sign in _OUT_OF_MEMORY)
    )
