"""How the values of a column lie: counts by range or by tag, on a scale that all filters share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from laketag.lake.browsing import View
from laketag.lake.dataset import is_image_like

_BARS = 32
_MOST_TAGS = 12
_SAMPLE = 10_000
# Beyond this, numbers are marks of something (a hash), and how they lie means nothing.
_MARKS = 1 << 53
_STEPS = (1, 2, 2.5, 5, 10)
_PLACES = ("__key__", "__url__", "__offset__")


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
    def is_number(self) -> bool:
        """Whether it is one of numbers."""
        return bool(self.edges)


@dataclass(frozen=True)
class Shape:
    """How the chosen rows lie on a scale."""

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


def scales(view: View) -> list[Scale]:
    """Find the columns whose values can be counted, label columns first, and a scale for each."""
    labels = [field for field in view.schema if _is_label(field)]
    others = [field for field in view.schema if not _is_label(field) and field.name not in _PLACES]
    names = [field.name for field in (*labels, *others) if _can_count(view, field)]
    if not names:
        return []
    table = view.values(names)
    marked = {field.name for field in labels}
    found = [_scale(name, table[name], name in marked) for name in names]
    return [scale for scale in found if scale is not None]


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
    return [shape(scale, table[scale.column]) for scale in scales]


def shape(scale: Scale, values: pa.ChunkedArray) -> Shape:
    """Count values on a scale."""
    if not scale.is_number:
        counted = {each["values"]: each["counts"] for each in values.value_counts().to_pylist()}
        nulls = counted.pop(None, 0)
        counts = tuple(counted.pop(tag, 0) for tag in scale.tags)
        return Shape(scale, counts, sum(counted.values()), nulls)
    numbers = as_numbers(values)
    there = numbers[~np.isnan(numbers)]
    nulls = len(numbers) - len(there)
    bars = np.bincount(_bar_of(edges_as(scale, values.type), there), minlength=len(scale.edges) - 1)
    if not len(there):
        return Shape(scale, tuple(bars.tolist()), 0, nulls)
    return Shape(
        scale,
        tuple(bars.tolist()),
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


def _bar_of(edges: npt.NDArray[np.float64], numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Say in which bar each number lies."""
    places = (numbers - edges[0]) / (edges[1] - edges[0])
    bars: npt.NDArray[np.int64] = places.clip(0, len(edges) - 2).astype(np.int64)
    # The quotient is off by one where rounding took a number over an edge.
    bars -= (numbers < edges[bars]) & (bars > 0)
    bars += (numbers >= edges[bars + 1]) & (bars < len(edges) - 2)
    return bars


def as_numbers(values: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Give a column of numbers as numpy's, NaN where there is none."""
    numbers: npt.NDArray[np.float64] = pc.cast(values, pa.float64(), safe=False).to_numpy()
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _is_label(field: pa.Field) -> bool:
    return b"laketag" in (field.metadata or {})


def _can_count(view: View, field: pa.Field) -> bool:
    kind = field.type
    if is_image_like(field) or (_is_label(field) and field.name.endswith("_DIGEST")):
        return False
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return True
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return False
    if _is_label(field):
        return True
    sample = view.dataset.scanner(columns=[field.name], limit=_SAMPLE).to_table()[field.name]
    kinds = pc.count_distinct(sample).as_py()
    return bool(kinds <= 4 * _MOST_TAGS and kinds * 2 <= max(2, len(sample)))


def _scale(name: str, values: pa.ChunkedArray, is_label: bool) -> Scale | None:
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = as_numbers(values)
        numbers = numbers[~np.isnan(numbers)]
        if not len(numbers) or numbers.max() - numbers.min() > _MARKS:
            return None
        return Scale(name, edges=_edges(numbers, is_whole=pa.types.is_integer(kind)), is_label=is_label)
    counted = [each for each in values.value_counts().to_pylist() if each["values"] is not None]
    counted.sort(key=lambda each: (-each["counts"], str(each["values"])))
    if not counted:
        return None
    return Scale(name, tags=tuple(each["values"] for each in counted[:_MOST_TAGS]), is_label=is_label)


def _edges(numbers: npt.NDArray[np.float64], is_whole: bool) -> tuple[float, ...]:
    """Cut the range that holds nearly all numbers into bars of a round width."""
    low, high = (float(each) for each in np.quantile(numbers, (0.002, 0.998)))
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
