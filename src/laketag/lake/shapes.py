"""The distribution of a column's values: counts by range or by tag, on a scale that all filters share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from laketag.lake.browsing import View
from laketag.lake.dataset import is_image_like
from laketag.lake.labels import is_digest, is_label
from laketag.lake.presence import KEY, URL

T = TypeVar("T")
R = TypeVar("R")

_BARS = 32
_MOST_TAGS = 12
_SAMPLE = 10_000
_DRAWN = 100_000
_THREADS = 4
# Beyond this, numbers are marks of something (a hash), and their distribution means nothing.
_MARKS = 1 << 53
_STEPS = (1, 2, 2.5, 5, 10)
_PLACES = (KEY, URL, "__offset__")


@dataclass(frozen=True)
class Scale:
    """What the bars of a column stand for."""

    column: str
    edges: tuple[float, ...] = ()
    """Of a column of numbers: the first bar also holds what is below, the last one what is above."""
    tags: tuple[Any, ...] = ()
    """Of a column of tags: the most frequent values, the most frequent first."""
    is_label: bool = False
    """Whether laketag made the column."""

    @property
    def is_error(self) -> bool:
        """Whether its tags are the reasons why rows have no label."""
        return self.is_label and self.column.endswith("_ERROR")

    @property
    def is_number(self) -> bool:
        """Whether it is one of numbers."""
        return bool(self.edges)


@dataclass(frozen=True)
class Shape:
    """How the chosen rows are distributed on a scale."""

    scale: Scale
    counts: tuple[int, ...]
    """Rows by bar, or by tag."""
    others: int
    """Rows with a tag that has no bar."""
    nulls: int
    """Rows without a value."""
    mean: float | None = None
    low: float | None = None
    """The lowest value."""
    high: float | None = None

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(self.counts) + self.others + self.nulls


def survey(view: View) -> list[Shape]:
    """Find the columns whose values can be counted, label columns first, and count all rows of each.

    The columns are read once: each gets its scale from the values that are counted on it.
    """
    labels = [field for field in view.schema if is_label(field)]
    others = [field for field in view.schema if not is_label(field) and field.name not in _PLACES]
    fields = [field for field in (*labels, *others) if _is_countable(field)]
    if not fields:
        return []
    first = view.dataset.scanner(columns=[field.name for field in fields], limit=_SAMPLE).to_table()
    names = [field.name for field in fields if _can_have_bars(field, first[field.name])]
    if not names:
        return []
    table = view.values(names)
    marked = {field.name for field in labels}
    found = _each(lambda name: _surveyed(name, table[name], name in marked), names)
    return [shape for shape in found if shape is not None]


def shapes(
    view: View, scales: Sequence[Scale], where: str | None = None, *, has_many: bool = False
) -> list[Shape]:
    """Count the chosen rows on every scale, in one pass over these columns.

    Raises:
        BadSQL: Lance cannot run the filter.
    """
    if not scales:
        return []
    table = view.values([scale.column for scale in scales], where, has_many=has_many)
    return _each(lambda scale: shape(scale, table[scale.column]), scales)


def _each(count: Callable[[T], R], columns: Sequence[T]) -> list[R]:
    """Count columns side by side: it is done outside of Python's lock."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(count, columns))


def shape(scale: Scale, values: pa.ChunkedArray) -> Shape:
    """Count values on a scale."""
    if not scale.is_number:
        return _tagged(scale, _counted(values))
    there = _there(values)
    nulls = len(values) - len(there)
    if not len(there):
        return Shape(scale, (0,) * (len(scale.edges) - 1), 0, nulls)
    return Shape(
        scale,
        tuple(_bars(edges_as(scale, values.type).astype(there.dtype), there)),
        0,
        nulls,
        mean=float(there.mean(dtype=np.float64)),
        low=float(there.min()),
        high=float(there.max()),
    )


def edges_as(scale: Scale, kind: pa.DataType) -> npt.NDArray[np.float64]:
    """Round edges as a filter rounds them: it compares a column of floats in the column's own precision."""
    rounded = pa.array(scale.edges, pa.float64()).cast(kind if pa.types.is_floating(kind) else pa.float64())
    edges: npt.NDArray[np.float64] = rounded.cast(pa.float64()).to_numpy()
    return edges


def can_be_counted(scale: Scale, kind: pa.DataType) -> bool:
    """Whether values of a type can be counted on a scale: texts cannot on one of numbers."""
    return not scale.is_number or _is_number(kind)


def _bars(edges: npt.NDArray[Any], numbers: npt.NDArray[Any]) -> list[int]:
    """Count the numbers between edges; what is beyond them in the first and the last bar."""
    # A few passes that only compare cost less than one that finds each number's bar.
    below = [int(np.count_nonzero(numbers < edge)) for edge in edges[1:-1]]
    return [high - low for low, high in pairwise([0, *below, len(numbers)])]


def _there(values: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Give the finite numbers of a column, in its own precision where that is a float's."""
    kind = values.type if pa.types.is_floating(values.type) else pa.float64()
    numbers = pc.cast(values.drop_null(), kind, safe=False).to_numpy()
    finite: npt.NDArray[Any] = numbers[np.isfinite(numbers)]
    return finite


def _counted(values: pa.ChunkedArray) -> dict[Any, int]:
    return {each["values"]: each["counts"] for each in values.value_counts().to_pylist()}


def _tagged(scale: Scale, counted: Mapping[Any, int]) -> Shape:
    counts = tuple(counted.get(tag, 0) for tag in scale.tags)
    nulls = counted.get(None, 0)
    return Shape(scale, counts, sum(counted.values()) - sum(counts) - nulls, nulls)


def as_numbers(values: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Give a column of numbers as numpy's, NaN where there is none."""
    numbers: npt.NDArray[np.float64] = pc.cast(values, pa.float64(), safe=False).to_numpy()
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _is_countable(field: pa.Field) -> bool:
    kind = field.type
    if is_image_like(field) or is_digest(field):
        return False
    return _is_number(kind) or pa.types.is_boolean(kind) or _is_text(kind)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _can_have_bars(field: pa.Field, sample: pa.ChunkedArray) -> bool:
    """Whether the first values leave that open: what they rule out need not be read."""
    if _is_number(field.type):
        return not _is_marks(_there(sample))
    if is_label(field) or not _is_text(field.type):
        return True
    kinds = pc.count_distinct(sample).as_py()
    return bool(kinds <= 4 * _MOST_TAGS and kinds * 2 <= max(2, len(sample)))


def _is_marks(numbers: npt.NDArray[Any]) -> bool:
    return bool(len(numbers) and float(numbers.max()) - float(numbers.min()) > _MARKS)


def _surveyed(name: str, values: pa.ChunkedArray, is_label: bool) -> Shape | None:
    """Count a column on a scale of its own; None where there is nothing to count."""
    if _is_number(values.type):
        there = _there(values)
        if not len(there) or _is_marks(there):
            return None
        edges = _edges(_some(there), is_whole=pa.types.is_integer(values.type))
        return shape(Scale(name, edges=edges, is_label=is_label), values)
    counted = _counted(values)
    tags = sorted((tag for tag in counted if tag is not None), key=lambda tag: (-counted[tag], str(tag)))
    if not tags:
        return None
    return _tagged(Scale(name, tags=tuple(tags[:_MOST_TAGS]), is_label=is_label), counted)


def _some(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Draw so many that their percentiles are those of all, always the same ones."""
    if len(numbers) <= _DRAWN:
        return numbers
    return numbers[np.random.default_rng(0).integers(0, len(numbers), _DRAWN)]


def _edges(numbers: npt.NDArray[Any], is_whole: bool) -> tuple[float, ...]:
    """Cut the range that holds nearly all numbers into bars of a round width."""
    low, high = (float(each) for each in np.quantile(numbers.astype(np.float64), (0.002, 0.998)))
    width = (high - low) / _BARS
    if width <= 0:
        width = abs(low) / 10 or 1.0
    power = 10.0 ** math.floor(math.log10(width))
    step = next(factor * power for factor in _STEPS if factor * power >= width * 0.999)
    if is_whole:
        step = max(1.0, round(step))
    first, last = math.floor(low / step), math.floor(high / step) + 1
    # 3 * 0.1 is not 0.3: people, and filters, want the round number.
    return tuple(float(f"{number * step:.12g}") for number in range(first, last + 1))
