from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

from datasets import STORAGES, Storage, image, make
from laketag.errors import BadSQL, ColumnError
from laketag.lake.browsing import View
from laketag.lake.location import Location
from laketag.lake.shapes import shape, shapes, survey

COLUMNS: dict[str, list[Any]] = {
    "whole": [3, 1, None, 3, -(2**62), 2**62, 1, 3, None, 2],
    "real": [0.5, float("nan"), None, 0.5, -1.0, float("inf"), 0.25, 0.5, 7.0, 0.25],
    "text": ["b", "a", None, "b", "", "zz", "a", "b", None, "ä"],
    "flag": [True, False, None, True, True, False, None, False, True, False],
}


def view(folder: Path, columns: dict[str, Any]) -> View:
    """Write a dataset of these columns, in several fragments, and look at it."""
    lance.write_dataset(pa.table(columns), str(folder), max_rows_per_file=4)
    return View.of(Location.of(str(folder)))


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("column", COLUMNS)
def test_rows_are_in_order_with_nulls_last_and_equal_ones_as_they_lie(
    column: str, descending: bool, tmp_path: Path
) -> None:
    looked = view(tmp_path / "made.lance", COLUMNS)
    values = COLUMNS[column]
    there = [n for n, value in enumerate(values) if value is not None and value == value]
    expected = sorted(there, key=lambda n: values[n])
    if descending:
        expected = sorted(
            there, key=lambda n: [-ord(c) for c in values[n]] + [1] if column == "text" else -values[n]
        )
    expected += [n for n in range(len(values)) if n not in there]

    found = looked.choose(order_by=column + (" desc" if descending else ""))
    rows = looked.rows(found.ids, [column])

    assert [row[column] for row in rows if row] == pytest.approx([values[n] for n in expected], nan_ok=True)
    assert [numbers(looked)[int(one)] for one in found.ids] == expected


def numbers(looked: View) -> dict[int, int]:
    """Tell rows by their place in the dataset."""
    return {int(one): place for place, one in enumerate(looked.choose().ids)}


@pytest.mark.slow
@pytest.mark.parametrize("column", COLUMNS)
def test_the_first_rows_are_those_that_come_first_among_all(column: str, tmp_path: Path) -> None:
    chance = random.Random(column)
    rows = 300
    columns = {name: [chance.choice(values) for _ in range(rows)] for name, values in COLUMNS.items()}
    looked = view(tmp_path / "made.lance", columns)

    for order in (column, f"{column} desc"):
        everything = looked.choose("whole < 3", order).ids.tolist()
        for first in (0, 1, 7, len(everything) - 1, len(everything), rows):
            assert looked.choose("whole < 3", order, first=first).ids.tolist() == everything[:first]


@pytest.mark.parametrize(
    "values",
    [pa.array(np.array([2, 1, 3], np.float16)), pa.array(["b", "a", "c"]).dictionary_encode()],
    ids=["float16", "dictionary"],
)
def test_what_arrow_cannot_order_by_itself_is_in_order(values: pa.Array, tmp_path: Path) -> None:
    lance.write_dataset(pa.table({"v": values}), str(tmp_path), data_storage_version="2.1")
    looked = View.of(Location.of(str(tmp_path)))

    for first in (2, None):
        ids = looked.choose(order_by="v desc", first=first).ids
        found = [row and row["v"] for row in looked.rows(ids, ["v"])]
        assert found == sorted(values.to_pylist(), reverse=True)[:first]


def test_what_cannot_be_an_order_or_a_filter_is_said(tmp_path: Path) -> None:
    looked = view(tmp_path / "made.lance", {**COLUMNS, "many": [[1]] * 10})

    with pytest.raises(ColumnError, match=r"'WHOLE'.*did you mean 'whole'"):
        looked.choose(order_by="WHOLE")
    with pytest.raises(ColumnError, match="'many'"):
        looked.choose(order_by="many")
    with pytest.raises(BadSQL, match="whole >"):
        looked.choose("whole >")


@pytest.mark.parametrize("storage", STORAGES, ids=str)
def test_images_of_every_storage_come_in_the_order_that_was_asked_for(
    storage: Storage, tmp_path: Path
) -> None:
    make(tmp_path / "made.lance", 30, storage=storage, rows_per_fragment=10)
    lance.dataset(str(tmp_path / "made.lance")).delete("number = 12")
    looked = View.of(Location.of(str(tmp_path / "made.lance")))
    ids = looked.choose("number in (3, 17, 25)", "number desc").ids

    assert looked.images(ids) == [image(25), image(17), image(3)]
    assert looked.images([12 if storage.stable_row_ids else (1 << 32) + 2]) == [None]


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.int32(), pa.uint64()], ids=str)
def test_a_bar_counts_the_rows_that_its_range_lets_pass(kind: pa.DataType, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    numbers = chance.normal(5, 0.6, 3000) * (20 if pa.types.is_integer(kind) else 1)
    # Many lie on an edge exactly.
    values = pa.array(np.where(chance.random(3000) < 0.5, numbers.round(1), numbers)).cast(kind, safe=False)
    uri = str(tmp_path / "made.lance")
    lance.write_dataset(pa.table({"value": values}), uri)
    looked = View.of(Location.of(uri))
    [found] = survey(looked)
    scale = found.scale

    for bar, (low, high) in enumerate(zip(scale.edges, scale.edges[1:], strict=False)):
        parts = [f"value >= {low:.12g}"] if bar else []
        parts += [f"value < {high:.12g}"] if bar < len(scale.edges) - 2 else []
        assert looked.choose(" and ".join(parts)).total == found.counts[bar], (low, high)
    assert found.rows == 3000
    assert shapes(looked, [scale]) == [found]


def test_tags_are_counted_the_most_frequent_first_and_the_rest_together(tmp_path: Path) -> None:
    tags = [f"tag{n % 20}" for n in range(200)] + ["often"] * 50 + [None] * 7
    looked = view(tmp_path / "made.lance", {"tag": tags})
    [found] = survey(looked)
    scale = found.scale

    assert scale.tags[0] == "often"
    assert found.counts[0] == 50
    assert found.others == (20 - len(scale.tags) + 1) * 10
    assert (found.nulls, found.rows) == (7, 257)


def test_no_scale_is_made_for_marks_keys_and_empty_columns(tmp_path: Path) -> None:
    columns = {
        "hash": pa.array([-(2**62), 2**62] * 20),
        "name": pa.array([f"name {n}" for n in range(40)]),
        "empty": pa.nulls(40, pa.float32()),
        "nan": pa.array([float("nan")] * 40),
        "one": pa.array([1.5] * 40),
    }
    looked = view(tmp_path / "made.lance", columns)

    assert [each.scale.column for each in survey(looked)] == ["one"]


def test_a_scale_holds_for_no_rows_at_all(tmp_path: Path) -> None:
    looked = view(tmp_path / "made.lance", {"one": [1.5, 2.5]})
    [found] = survey(looked)

    assert shape(found.scale, pa.chunked_array([], pa.float64())).rows == 0
