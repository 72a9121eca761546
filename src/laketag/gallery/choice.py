"""What a visitor chose: read from a page's address, and written into one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from laketag.errors import ColumnError, DatasetError
from laketag.lake import sql

_NONE = ""
"""Stands for no value among tags; SQL's own word for an empty text is not needed often enough."""


# More than any version or row has, and less than Lance can be asked for.
_DIGITS = 18


@dataclass(frozen=True)
class Bound:
    """A range of a column of numbers."""

    column: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Tags:
    """Some values of a column."""

    column: str
    values: tuple[str, ...]
    """As text; the empty one means no value."""


@dataclass(frozen=True)
class Choice:
    """Rows, their order and the version; a value, so that it is a key of what is remembered."""

    at: int | None = None
    """The version; the latest where None."""
    where: str = ""
    """A filter in SQL, as typed."""
    sort: str = ""
    bounds: tuple[Bound, ...] = ()
    tags: tuple[Tags, ...] = ()

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Choice:
        """Read the pairs of an address; what is not known is left out.

        Raises:
            DatasetError: a version or a bound is not a number.
        """
        choice = cls()
        tags: dict[str, list[str]] = {}
        bounds: dict[str, Bound] = {}
        for key, text in pairs:
            kind, _, column = key.partition(".")
            if key == "at" and text:
                choice = replace(choice, at=whole(text, "the version"))
            elif key == "where":
                choice = replace(choice, where=text.strip())
            elif key == "sort":
                choice = replace(choice, sort=text.strip())
            elif kind == "tag" and column:
                tags.setdefault(column, []).append(text)
            elif kind in ("min", "max") and column and text:
                held, value = bounds.get(column, Bound(column)), _real(text, column)
                bounds[column] = replace(held, low=value) if kind == "min" else replace(held, high=value)
        return replace(
            choice,
            bounds=tuple(bounds.values()),
            tags=tuple(Tags(column, tuple(dict.fromkeys(values))) for column, values in tags.items()),
        )

    def address(self, path: str = "", **more: str | int) -> str:
        """Write an address that leads to this choice."""
        pairs: list[tuple[str, str | int]] = []
        if self.at is not None:
            pairs.append(("at", self.at))
        pairs += [(key, text) for key, text in (("where", self.where), ("sort", self.sort)) if text]
        for bound in self.bounds:
            sides = (("min", bound.low), ("max", bound.high))
            pairs += [
                (f"{side}.{bound.column}", sql.number(value)) for side, value in sides if value is not None
            ]
        pairs += [(f"tag.{each.column}", value) for each in self.tags for value in each.values]
        encoded = urlencode([*pairs, *more.items()])
        return f"{path}?{encoded}" if encoded else path or "?"

    def filter(self, texts: Sequence[str], floats: Sequence[str] = ()) -> str | None:
        """Write all of it as one filter in SQL; None where every row is chosen.

        Args:
            texts: the columns whose values are text; the tags of others are numbers or true and false.
            floats: the columns that may hold NaN, which is within no bound.
        """
        parts = [part for bound in self.bounds for part in _bound(bound, bound.column in floats)]
        parts += [_tags(each, each.column in texts) for each in self.tags]
        if not self.where:
            return " and ".join(parts) or None
        return " and ".join([f"({self.where})", *parts]) if parts else self.where

    def bound(self, column: str) -> Bound:
        """Give the range of a column."""
        return next((each for each in self.bounds if each.column == column), Bound(column))

    def chosen(self, column: str) -> tuple[str, ...]:
        """Give the tags of a column."""
        return next((each.values for each in self.tags if each.column == column), ())

    @property
    def is_all(self) -> bool:
        """Whether no row is left out."""
        return not (self.where or self.bounds or self.tags)


def whole(text: str, what: str) -> int:
    """Read a number that an address must hold.

    Raises:
        DatasetError: it is none.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        raise DatasetError(f"{what} is {text!r}, which is not a number; go back to the first page")
    return int(text)


def _real(text: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ColumnError(f"a bound of {column!r} is {text!r}, which is not a number")
    return value


def _bound(bound: Bound, is_float: bool) -> list[str]:
    name = sql.name(bound.column)
    sides = ((">=", bound.low), ("<=", bound.high))
    parts = [f"{name} {sign} {sql.literal(value)}" for sign, value in sides if value is not None]
    # To Lance NaN is above all numbers: an upper bound leaves it out, a lower one alone does not.
    return [*parts, f"not isnan({name})"] if is_float and bound.high is None else parts


def _tags(tags: Tags, is_text: bool) -> str:
    name = sql.name(tags.column)
    values = [each for each in tags.values if each != _NONE]
    parts = []
    if values:
        written = [sql.literal(each) if is_text else _plain(each, tags.column) for each in values]
        parts.append(f"{name} in ({', '.join(written)})" if len(written) > 1 else f"{name} = {written[0]}")
    if _NONE in tags.values:
        parts.append(f"{name} is null")
    return f"({' or '.join(parts)})" if len(parts) > 1 else parts[0]


def _plain(text: str, column: str) -> str:
    return text if text in ("true", "false") else sql.literal(_real(text, column))
