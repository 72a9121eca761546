"""Columns that come by SQL, go, and change name or type, and no image is written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import lance
import pyarrow as pa
import pytest

import datasets
from datasets import PARITY, STORAGES, Storage, make, parity, values
from laketag.errors import BadSQL, ColumnError, DatasetNotFound
from laketag.lake.evolving import add_column, cast_column, drop_column, rename_column
from laketag.lake.query import Selection, query

MADE_BY = {"laketag": json.dumps({"tagger": "toy", "job": "abc"})}


def bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("storage", STORAGES, ids=str)
def test_an_expression_with_case_becomes_a_column_beside_deleted_rows(
    tmp_path: Path, storage: Storage
) -> None:
    make(tmp_path, 300, storage=storage).delete("number % 7 = 0")

    report = add_column(str(tmp_path), "PARITY", PARITY)

    assert values(tmp_path, "PARITY") == {n: parity(n) for n in range(300) if n % 7}
    assert report.to_json() == {"uri": str(tmp_path), "version": 3, "columns": ("jpg", "number", "PARITY")}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("rank() over (order by number desc)", lambda n: 300 - n),
        ("number - (select max(number) from dataset)", lambda n: n - 299),
        ("substr('abc', 1, 2) -- two letters", lambda n: "ab"),
        ("arrow_cast('a', 'Dictionary(Int32, Utf8)')", lambda n: "a"),
        ("case when jpg is null then 0 else number end", lambda n: n),
        ('"number" + 1', lambda n: n + 1),
    ],
)
def test_what_a_query_takes_an_added_column_takes(
    tmp_path: Path, expression: str, expected: Callable[[int], object]
) -> None:
    make(tmp_path)

    add_column(str(tmp_path), "X", expression)

    assert values(tmp_path, "X") == {n: expected(n) for n in range(300)}


@pytest.mark.parametrize(
    "expression",
    [
        "nosuch + 1",
        "number +",
        "unnest([1, 2])",
        "1) as a, (2",
        "avg(number)",
        "number / 0",
        "cast('x' as int)",
        "",
    ],
)
def test_an_expression_that_is_no_value_for_each_row_changes_nothing(tmp_path: Path, expression: str) -> None:
    make(tmp_path)
    files = sorted(tmp_path.rglob("*.lance"))

    with pytest.raises(BadSQL):
        add_column(str(tmp_path), "X", expression)

    assert lance.dataset(str(tmp_path)).version == 1
    assert sorted(tmp_path.rglob("*.lance")) == files


@pytest.mark.parametrize(("expression", "why"), [("null", "cast"), ("[number]", "plain values")])
def test_a_value_that_no_column_can_hold_is_refused_with_the_way_out(
    tmp_path: Path, expression: str, why: str
) -> None:
    make(tmp_path)

    with pytest.raises(ColumnError, match=why):
        add_column(str(tmp_path), "X", expression)


@pytest.mark.parametrize("name", ["number", "NUMBER", "", "*", "a.b", 'a"b', "_rowid"])
def test_a_name_that_is_taken_or_no_name_is_refused(tmp_path: Path, name: str) -> None:
    make(tmp_path)

    with pytest.raises(ColumnError):
        add_column(str(tmp_path), name, "1")
    with pytest.raises(ColumnError):
        rename_column(str(tmp_path), "jpg", name)

    assert lance.dataset(str(tmp_path)).version == 1


def test_names_are_exact_case(tmp_path: Path) -> None:
    make(tmp_path)
    add_column(str(tmp_path), "SCORE", "cast(number as float) / 100")

    add_column(str(tmp_path), "TAG", "case when SCORE > 1.5 then 'high' else 'low' end")

    assert values(tmp_path, "TAG") == {n: "high" if n > 150 else "low" for n in range(300)}


def test_a_label_column_is_derived_again_from_its_score_and_no_longer_said_to_be_the_models(
    tmp_path: Path,
) -> None:
    dataset = make(tmp_path)
    dataset.add_columns(pa.schema([pa.field("TAG", pa.string(), metadata=MADE_BY)]))

    add_column(str(tmp_path), "TAG", PARITY, replace=True)

    assert values(tmp_path, "TAG") == {n: parity(n) for n in range(300)}
    made_by = json.loads(lance.dataset(str(tmp_path)).schema.field("TAG").metadata[b"laketag"])
    assert made_by == {"tagger": "sql", "expression": PARITY}


def test_a_replaced_column_keeps_its_type_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    make(tmp_path)
    add_column(str(tmp_path), "X", "cast(number as float)")

    add_column(str(tmp_path), "X", "X + 1", replace=True)
    with pytest.raises(ColumnError, match="'X', which is float"):
        add_column(str(tmp_path), "X", "'text'", replace=True)

    assert values(tmp_path, "X") == {n: n + 1 for n in range(300)}
    assert lance.dataset(str(tmp_path)).schema.field("X").type == pa.float32()


def test_an_index_on_a_replaced_column_does_not_answer_with_old_values(tmp_path: Path) -> None:
    make(tmp_path)
    add_column(str(tmp_path), "PARITY", PARITY)
    lance.dataset(str(tmp_path)).create_scalar_index("PARITY", "BITMAP")

    add_column(str(tmp_path), "PARITY", "case when number < 100 then 'even' else 'none' end", replace=True)

    found = {
        name: lance.dataset(str(tmp_path)).count_rows(filter=f"PARITY = '{name}'") for name in ("even", "odd")
    }
    assert found == {"even": 100, "odd": 0}


def test_a_dataset_without_rows_gets_the_column_too(tmp_path: Path) -> None:
    make(tmp_path).delete("true")

    report = add_column(str(tmp_path), "X", "number + 1")

    assert report.columns == ("jpg", "number", "X")
    assert lance.dataset(str(tmp_path)).schema.field("X").type == pa.int64()


def test_provenance_survives_a_rename_and_a_cast(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    dataset.add_columns(pa.schema([pa.field("SCORE", pa.float32(), metadata=MADE_BY)]))

    rename_column(str(tmp_path), "SCORE", "OLD_SCORE")
    report = cast_column(str(tmp_path), "OLD_SCORE", "float64")

    field = lance.dataset(str(tmp_path)).schema.field("OLD_SCORE")
    assert field.type == pa.float64()
    assert field.metadata == {b"laketag": MADE_BY["laketag"].encode()}
    assert report.columns == ("jpg", "number", "OLD_SCORE")


@pytest.mark.parametrize("storage", STORAGES, ids=str)
def test_columns_go_and_change_beside_deleted_rows_in_every_storage(tmp_path: Path, storage: Storage) -> None:
    make(tmp_path, 300, storage=storage).delete("number % 7 = 0")
    add_column(str(tmp_path), "PARITY", PARITY)

    rename_column(str(tmp_path), "PARITY", "KIND")
    cast_column(str(tmp_path), "number", "int32")
    assert values(tmp_path, "KIND") == {n: parity(n) for n in range(300) if n % 7}
    report = drop_column(str(tmp_path), "KIND")

    assert report.columns == ("jpg", "number")
    rows = next(query(str(tmp_path), selection=Selection(columns=("jpg", "number"), limit=1))).to_pylist()
    assert rows == [{"jpg": datasets.image(1), "number": 1}]


def test_a_cast_that_cannot_be_is_refused_with_the_way_out(tmp_path: Path) -> None:
    make(tmp_path)

    for name, kind, why in [
        ("number", "string", "add-column"),
        ("number", "int8", "128"),
        ("jpg", "large_binary", "every image"),
        ("NUMBER", "int32", "did you mean 'number'"),
    ]:
        with pytest.raises(ColumnError, match=why):
            cast_column(str(tmp_path), name, kind)

    assert lance.dataset(str(tmp_path)).version == 1


def test_a_missing_column_and_the_last_column_are_not_dropped(tmp_path: Path) -> None:
    make(tmp_path)
    drop_column(str(tmp_path), "number")

    with pytest.raises(ColumnError, match="the only one"):
        drop_column(str(tmp_path), "jpg")
    with pytest.raises(ColumnError, match="no column 'number'"):
        drop_column(str(tmp_path), "number")
    with pytest.raises(ColumnError, match="no column 'number'"):
        rename_column(str(tmp_path), "number", "N")
    with pytest.raises(DatasetNotFound):
        drop_column(str(tmp_path / "nowhere"), "jpg")


def test_the_last_images_are_not_dropped_and_others_are(tmp_path: Path) -> None:
    names = ["jpg", "png", "thumbnail", "number"]
    row = dict.fromkeys(names[:3], b"image") | {"number": 1}
    lance.write_dataset(pa.Table.from_pylist([row]), str(tmp_path))

    for name in ("jpg", "thumbnail"):
        drop_column(str(tmp_path), name)
    with pytest.raises(ColumnError, match="'png' holds the images"):
        drop_column(str(tmp_path), "png")

    assert lance.dataset(str(tmp_path)).schema.names == ["png", "number"]


def test_keys_that_sql_made_are_anyones(tmp_path: Path) -> None:
    make(tmp_path)
    add_column(str(tmp_path), "__key__", "'x'")

    add_column(str(tmp_path), "__key__", "cast(number as string)", replace=True)

    assert values(tmp_path, "__key__") == {n: str(n) for n in range(300)}


def test_none_of_it_writes_images(tmp_path: Path) -> None:
    images = [os.urandom(100_000) for _ in range(200)]
    table = pa.table({"jpg": pa.array(images, pa.large_binary()), "number": range(200)})
    lance.write_dataset(table, str(tmp_path), max_rows_per_file=50, enable_stable_row_ids=True)
    uri, written = str(tmp_path), {}

    for name, change in {
        "add": lambda: add_column(uri, "PARITY", PARITY),
        "derive again": lambda: add_column(uri, "PARITY", "'none'", replace=True),
        "rename": lambda: rename_column(uri, "PARITY", "KIND"),
        "cast": lambda: cast_column(uri, "number", "int32"),
        "drop": lambda: drop_column(uri, "KIND"),
    }.items():
        before = bytes_in(tmp_path)
        change()
        written[name] = bytes_in(tmp_path) - before

    assert bytes_in(tmp_path) > 20_000_000
    assert max(written.values()) < 50_000, written
