"""What templates draw: histograms as shapes of plain numbers, and the templates themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from laketag.gallery import words
from laketag.lake.history import VersionShown
from laketag.lake.shapes import Shape

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram."""

    label: str
    """What it stands for."""
    rows: int
    of: int
    """Rows of it before any filter."""
    height: float
    """In percent of the highest bar."""
    ghost: float
    """The height before any filter."""
    value: str | None = None
    """Of a tag, how an address names it; None where none can."""


@dataclass(frozen=True)
class Histogram:
    """The bars of a column."""

    shape: Shape
    bars: tuple[Bar, ...]

    @property
    def column(self) -> str:
        """The column's name."""
        return self.shape.scale.column

    @property
    def sentence(self) -> str:
        """What a screen reader says instead of the drawing."""
        shape = self.shape
        if shape.low is None or shape.high is None or shape.mean is None:
            said = ", ".join(f"{bar.label} {words.share(bar.rows, shape.rows)}" for bar in self.bars)
            return f"{self.column}: {said or 'no values'}"
        low, high, mean = (words.number(each) for each in (shape.low, shape.high, shape.mean))
        there = words.count(shape.rows - shape.nulls, "row")
        return f"{self.column}: {there} from {low} to {high}, mean {mean}"


def histogram(shape: Shape, whole: Shape | None = None, *, beside: Shape | None = None) -> Histogram:
    """Draw the distribution of rows on a scale, in front of all rows, as high as in a drawing beside it."""
    of = whole or shape
    counted = list(zip(_labels(shape), shape.counts, of.counts, strict=True))
    if not shape.scale.is_number:
        # For people a tag like any other.
        none = "no error" if shape.scale.is_error else "no value"
        extra = (("other values", None, shape.others, of.others), (none, "", shape.nulls, of.nulls))
        counted += [((label, value), rows, all_rows) for label, value, rows, all_rows in extra if all_rows]
    most = max(_most(of), _most(beside or of)) or 1
    bars = [
        Bar(label, rows, all_rows, 100 * rows / most, 100 * all_rows / most, value)
        for (label, value), rows, all_rows in counted
    ]
    return Histogram(shape, tuple(bars))


def _most(shape: Shape) -> int:
    return max(*shape.counts, 0 if shape.scale.is_number else max(shape.others, shape.nulls))


def _labels(shape: Shape) -> Iterator[tuple[str, str | None]]:
    scale = shape.scale
    for tag in scale.tags:
        text = str(tag).lower() if isinstance(tag, bool) else str(tag)
        # The empty text stands for no value in an address.
        yield text or "(empty)", text or None
    last = len(scale.edges) - 2
    for at, (low, high) in enumerate(zip(scale.edges, scale.edges[1:], strict=False)):
        shown = f"{words.number(low)} to {words.number(high)}"
        if at in (0, last):
            shown += ", or below" if at == 0 else ", or above"
        yield shown, None


def _maker(version: VersionShown) -> str:
    made_by = version.made_by
    if "taggers" in made_by:
        return made_by["taggers"].replace(",", ", ")
    if "expression" in made_by:
        return made_by["job"]
    return "import" if "import" in made_by else version.operation


@cache
def templates() -> Environment:
    """Give the templates; everything that they are given is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("laketag.gallery"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "number": words.number,
        "size": words.size,
        "cell": words.cell,
        "brief": words.brief,
        "maker": _maker,
    }
    found.globals |= {"share": words.share, "count": words.count}
    return found


def prepare() -> None:
    """Compile all templates, so that no reader waits for it."""
    for name in templates().list_templates(["html"]):
        templates().get_template(name)


def drawn(template: str, **values: Any) -> str:
    """Fill in a template."""
    return templates().get_template(template).render(values)
