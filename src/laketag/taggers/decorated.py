"""The ten-line form of a tagger: a function from a batch of inputs to columns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from laketag.errors import BadTagger
from laketag.taggers.digest import canonical
from laketag.taggers.predicting import WrongRows
from laketag.taggers.protocol import BATCH_SIZE, IMAGE, check

_OUR_PACKAGE = __name__.partition(".")[0]
_NOT_TOLD = (
    kinds.is_integer,
    kinds.is_list,
    kinds.is_large_list,
    kinds.is_fixed_size_list,
    kinds.is_struct,
)


@dataclass(frozen=True)
class FunctionTagger:
    """A function as a tagger. It can still be called as the function."""

    name: str
    reads: tuple[str, ...]
    columns: pa.Schema
    function: Callable[..., Any] = field(repr=False, compare=False)
    batch_size: int = BATCH_SIZE
    version: str | None = None
    source: str | None = None
    """Digest of the function's meaning, taken where its source is: a worker has none."""
    failed: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What columns of a failed row hold instead of null."""

    def load(self, device: str) -> FunctionModel:
        """Give the function, ready to be called; it chooses a device by itself."""
        return FunctionModel(self.function, self.reads, self.columns)

    def identity(self) -> Mapping[str, str]:
        """Say what determines the labels: the version where there is one, else the source.

        Raises:
            BadTagger: there is no version, and the source could not be read.
        """
        if self.version is not None:
            return {"version": self.version}
        if self.source is None:
            raise BadTagger(
                f"tagger {self.name}: its source cannot be read, or it uses a value from around it "
                "that has no lasting text; give @laketag.tagger a version="
            )
        return {"source": self.source}

    def __call__(self, *inputs: Any) -> Any:
        """Call the function itself."""
        return self.function(*inputs)


@dataclass(frozen=True)
class FunctionModel:
    """A loaded `FunctionTagger`."""

    function: Callable[..., Any]
    reads: tuple[str, ...]
    columns: pa.Schema

    def prepare(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Put the row's inputs in the order of the function's arguments."""
        return tuple(row[role] for role in self.reads)

    def predict(self, batch: list[tuple[Any, ...]]) -> pa.RecordBatch:
        """Call the function with one list per role."""
        result = self.function(*(list(inputs) for inputs in zip(*batch, strict=True)))
        if isinstance(result, pa.RecordBatch):
            return result
        if isinstance(result, pa.Table):
            return pa.RecordBatch.from_arrays(
                [_array(c, None) for c in result.columns], names=result.column_names
            )
        if not isinstance(result, Mapping):
            raise TypeError(f"it returned a {type(result).__name__}, not a dict of its columns")
        names = [str(name) for name in result]
        types = [self.columns.field(n).type if n in self.columns.names else None for n in names]
        arrays = [_array(values, kind) for values, kind in zip(result.values(), types, strict=True)]
        for name, array in zip(names, arrays, strict=True):
            if len(array) != len(batch):
                raise WrongRows(len(array), len(batch), name)
        return pa.RecordBatch.from_arrays(arrays, names=names)


def tagger(
    *,
    columns: Mapping[str, pa.DataType] | pa.Schema,
    reads: Sequence[str] = (IMAGE,),
    version: str | None = None,
    batch_size: int = BATCH_SIZE,
    name: str | None = None,
    failed: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], FunctionTagger]:
    """Make a tagger of a function that takes one batch and returns a dict of columns.

    The function is given one list per role, of one batch of rows, and returns for each column a
    list or an array of as many values, in order.

    Args:
        columns: its label columns, with their types.
        reads: roles; `image` is a Pillow image, `bytes` its raw bytes, others a column's values.
        version: stands for the source code: labels are computed anew when it changes, and only then.
        batch_size: rows in one call, at most.
        name: its name; that of the function, in lower case, where None.
        failed: what columns of a failed row hold, by column; null where it says nothing.

    Raises:
        BadTagger: a name, role or column that cannot be.
    """
    if isinstance(reads, str):
        reads = (reads,)

    def decorate(function: Callable[..., Any]) -> FunctionTagger:
        made = FunctionTagger(
            name=name or getattr(function, "__name__", type(function).__name__).lower(),
            reads=tuple(reads),
            columns=_schema(columns),
            function=function,
            batch_size=batch_size,
            version=None if version is None else str(version),
            source=None if version is not None else _source(function),
            failed=failed or {},
        )
        check(made)
        take_along(function.__module__)
        return made

    return decorate


def take_along(module: str | None) -> None:
    """Let a user's top-level module or package travel to the workers by value, with what pickles from it."""
    top = sys.modules.get((module or "").partition(".")[0])
    # A script is taken along anyway; laketag itself is on every worker.
    if isinstance(top, ModuleType) and top.__name__ not in ("__main__", _OUR_PACKAGE):
        cloudpickle.register_pickle_by_value(top)


def _schema(columns: Mapping[str, pa.DataType] | pa.Schema) -> pa.Schema:
    if isinstance(columns, pa.Schema):
        return columns
    try:
        return pa.schema(list(columns.items()))
    except (AttributeError, TypeError, ValueError) as error:
        raise BadTagger(f"columns is {columns!r}: give a dict from names to pyarrow types") from error


def _source(function: Callable[..., Any]) -> str | None:
    try:
        return canonical(function) if isinstance(function, FunctionType) else None
    except BadTagger:
        return None


def _array(values: Any, kind: pa.DataType | None) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if hasattr(values, "detach"):  # a torch tensor, perhaps on a GPU
        values = values.detach().cpu()
    if isinstance(values, np.ma.MaskedArray):
        values = values.tolist()  # what is masked as None
    if not isinstance(values, list | tuple):
        values = np.asarray(values)
        if values.ndim == 1 and values.dtype != object:
            return pa.array(values)
        values = list(values)
    if kind is not None and any(is_kind(kind) for is_kind in _NOT_TOLD):
        return pa.array(values)  # told the type, Arrow would make 1 of 1.5 without a word; a cast does not
    return pa.array(values, kind)
