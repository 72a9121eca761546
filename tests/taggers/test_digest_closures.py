"""The digest of code that has something from around it: values of a function, cells of a notebook."""

from __future__ import annotations

import itertools
import linecache
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from laketag.errors import BadTagger
from laketag.taggers.decorated import tagger
from laketag.taggers.digest import tagger_digest

_cells = itertools.count()


def test_what_a_function_closes_over_counts() -> None:
    def make(gain: object) -> Any:
        @tagger(columns={"G": pa.float64()}, reads=("bytes",))
        def gained(values: list[bytes]) -> dict[str, list[Any]]:
            return {"G": [len(v) * gain for v in values]}  # type: ignore[operator]

        return gained

    assert tagger_digest(make(1.0)) == tagger_digest(make(1.0))
    assert tagger_digest(make(1.0)) != tagger_digest(make(2.0))
    with pytest.raises(BadTagger, match="version="):
        tagger_digest(make(object()))


def _times(gain: float) -> Any:
    def times(value: float, depth: int = 1) -> float:
        return times(value, depth - 1) if depth else value * gain

    return times


def _by_a_function(gain: float) -> Any:
    change = _times(gain)

    @tagger(columns={"G": pa.float64()}, reads=("bytes",))
    def gained(values: list[bytes]) -> dict[str, list[Any]]:
        return {"G": [change(len(v)) for v in values]}

    return gained


def _by_a_default(gain: float) -> Any:
    @tagger(columns={"G": pa.float64()}, reads=("bytes",))
    def gained(values: list[bytes], gain: float = gain) -> dict[str, list[Any]]:
        return {"G": [len(v) * gain for v in values]}

    return gained


def _by_a_keyword(gain: float) -> Any:
    @tagger(columns={"G": pa.float64()}, reads=("bytes",))
    def gained(values: list[bytes], *, gain: float = gain) -> dict[str, list[Any]]:
        return {"G": [len(v) * gain for v in values]}

    return gained


@dataclass(frozen=True)
class Changing:
    """A tagger whose parameter is a function."""

    change: Any
    name: ClassVar[str] = "changing"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema([("G", pa.float64())])

    def load(self, device: str) -> Any:
        raise NotImplementedError


def _by_a_class(gain: float) -> Any:
    class Model:
        def __init__(self) -> None:
            super().__init__()

        def predict(self, batch: list[bytes]) -> Any:
            return pa.record_batch({"G": [len(each) * gain for each in batch]})

    @dataclass(frozen=True)
    class Local:
        name: ClassVar[str] = "local"
        reads: ClassVar[tuple[str, ...]] = ("bytes",)
        columns: ClassVar[pa.Schema] = pa.schema([("G", pa.float64())])

        def load(self, device: str) -> Any:
            return Model() if Local.name else None

    return Local()


@pytest.mark.parametrize(
    "make", [_by_a_function, _by_a_default, _by_a_keyword, _by_a_class, lambda gain: Changing(_times(gain))]
)
def test_what_a_function_is_given_where_it_is_made_counts_however_deep(make: Any) -> None:
    assert tagger_digest(make(1.0)) == tagger_digest(make(1.0))
    assert tagger_digest(make(1.0)) != tagger_digest(make(2.0))


@dataclass(frozen=True)
class Backbone:
    name: str
    version: int = 1


@dataclass(frozen=True)
class Tower:
    name: str
    version: int = 1


def test_a_parameter_that_is_a_dataclass_counts_with_its_kind_and_all_its_fields() -> None:
    given = [Backbone("small"), Backbone("large"), Backbone("small", 2), Tower("small")]

    assert len({tagger_digest(Changing(each)) for each in given}) == len(given)
    assert tagger_digest(Changing(Backbone("small"))) == tagger_digest(Changing(Backbone("small")))


def _one_class() -> Any:
    class Made(Changing):
        def load(self, device: str) -> Any:
            return 1

    return Made("")


def _another_class_of_the_same_name() -> Any:
    class Made(Changing):
        def load(self, device: str) -> Any:
            return 2

    return Made("")


def test_classes_of_one_name_that_are_made_in_two_functions_are_two() -> None:
    assert tagger_digest(_one_class()) == tagger_digest(_one_class())
    assert tagger_digest(_one_class()) != tagger_digest(_another_class_of_the_same_name())


def _notebook(*cells: str) -> dict[str, Any]:
    """Run cells as a notebook does: each has a source of its own, and all have the same names."""
    names: dict[str, Any] = {"__name__": "notebook"}
    for text in cells:
        file = f"<cell {next(_cells)}>"
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        exec(compile(text, file, "exec"), names)
    return names


CELLS = (
    "import laketag, pyarrow as pa\nimport numpy as np\nSCALE = 2\nOTHER = 7\nx = 1\n",
    "def times(value):\n    return value * SCALE\n",
    "def helped(x):\n    return times(x)\n\n"
    "@laketag.tagger(columns={'G': pa.float64()}, reads=('bytes',))\n"
    "def glow(values):\n    return {'G': [float(np.float64(helped(len(v)))) for v in values]}\n",
)


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("SCALE = 2", "SCALE = 3", False),
        ("value * SCALE", "value + SCALE", False),
        ("import numpy as np", "import math as np", False),
        ("SCALE = 2", "SCALE = 2  # as before", True),
        ("OTHER = 7", "OTHER = 8", True),
        ("x = 1", "x = 2", True),
    ],
)
def test_what_a_function_uses_of_other_cells_of_a_notebook_counts(old: str, new: str, is_same: bool) -> None:
    assert any(old in cell for cell in CELLS)
    before = tagger_digest(_notebook(*CELLS)["glow"])
    after = tagger_digest(_notebook(*(cell.replace(old, new) for cell in CELLS))["glow"])

    assert (before == after) == is_same


def test_a_value_of_another_cell_that_has_no_lasting_text_asks_for_a_version() -> None:
    with pytest.raises(BadTagger, match="version="):
        tagger_digest(_notebook(CELLS[0].replace("SCALE = 2", "SCALE = object()"), *CELLS[1:])["glow"])
