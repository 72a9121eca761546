"""Columns that come by SQL, go, and change name or type, beside other writers, and no image is written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import lance
import pyarrow as pa
import pytest

import datasets
from datasets import PLAIN, STORAGES, Storage, make
from laketag.errors import BadSQL, ColumnError, DatasetNotFound
from laketag.lake import changing, deriving
from laketag.lake.committing import FragmentColumns
from laketag.lake.evolving import add_column, cast_column, drop_column, rename_column
from laketag.lake.indexing import index
from laketag.lake.location import Location
from laketag.lake.query import Selection, query

UNSTABLE = Storage("binary", "2.0", False)
PARITY = "case when number % 2 = 0 then 'even' else 'odd' end"
MADE_BY = {"laketag": json.dumps({"tagger": "toy", "job": "abc"})}


def values(folder: Path, name: str) -> dict[int, object]:
    dataset = lance.dataset(str(folder))
    dataset.validate()
    rows = dataset.to_table(columns=["number", name]).to_pylist()
    assert len({row["number"] for row in rows}) == len(rows), "a row is there twice"
    return {row["number"]: row[name] for row in rows}


def parity(number: int) -> str:
    return "odd" if number % 2 else "even"


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


@pytest.mark.parametrize("name", ["number", "NUMBER", "", "a.b", 'a"b', "_rowid"])
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


def append(folder: Path, storage: Storage) -> None:
    lance.write_dataset(datasets.table(range(300, 320), storage), str(folder), mode="append")


def compact(folder: Path, storage: Storage) -> None:
    lance.dataset(str(folder)).optimize.compact_files(target_rows_per_fragment=1000)


def update(folder: Path, storage: Storage) -> None:
    lance.dataset(str(folder)).update({"number": "number + 1000"}, where="number < 3")


def delete(folder: Path, storage: Storage) -> None:
    lance.dataset(str(folder)).delete("number >= 100 and number < 200 or number = 7")


def other_column(folder: Path, storage: Storage) -> None:
    lance.dataset(str(folder)).add_columns({"OTHER": "number * 2"})


@pytest.mark.parametrize("storage", [PLAIN, UNSTABLE, Storage("blob-v2", "2.2", True)], ids=str)
@pytest.mark.parametrize("write", [append, compact, update, delete, other_column])
@pytest.mark.parametrize("expression", [PARITY, f"{PARITY} || (select '' from dataset limit 1)"])
def test_what_others_write_meanwhile_is_kept_and_has_its_value(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    storage: Storage,
    write: Callable[[Path, Storage], None],
    expression: str,
) -> None:
    make(tmp_path, 300, storage=storage)
    prepare = deriving.Derivation.prepare
    written: list[int] = []

    def prepare_and_be_overtaken(
        self: deriving.Derivation, dataset: lance.LanceDataset, kind: pa.DataType
    ) -> list[FragmentColumns]:
        units = prepare(self, dataset, kind)
        if not written:
            write(tmp_path, storage)
            written.append(lance.dataset(str(tmp_path)).version)
        return units

    monkeypatch.setattr(deriving.Derivation, "prepare", prepare_and_be_overtaken)
    add_column(str(tmp_path), "PARITY", expression)

    found = values(tmp_path, "PARITY")
    before = lance.dataset(str(tmp_path), version=written[0])
    assert set(found) == set(before.to_table(columns=["number"])["number"].to_pylist())
    assert found == {n: parity(n) for n in found}
    assert set(before.schema.names) <= set(lance.dataset(str(tmp_path)).schema.names)
    used = {f.path for each in lance.dataset(str(tmp_path)).get_fragments() for f in each.metadata.files}
    made = {f.name for f in (tmp_path / "data").iterdir() if f.suffix == ".lance"}
    older = {
        f.path
        for v in range(1, written[0] + 1)
        for each in lance.dataset(str(tmp_path), version=v).get_fragments()
        for f in each.metadata.files
    }
    assert len(made - used - older) <= 1, "column files of the lost attempt are left"


def test_only_what_changed_is_evaluated_again(tmp_path: Path) -> None:
    make(tmp_path)
    derivation = deriving.Derivation(Location.of(str(tmp_path)), "X", "number + 1")
    first = derivation.prepare(lance.dataset(str(tmp_path)), pa.int64())
    append(tmp_path, PLAIN)

    second = derivation.prepare(lance.dataset(str(tmp_path)), pa.int64())

    assert second[:3] == first
    assert len(second) == 4


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


def rename_another(folder: Path, storage: Storage) -> None:
    lance.dataset(str(folder)).alter_columns({"path": "G", "name": "H"})


def drop_another(folder: Path, storage: Storage) -> None:
    lance.dataset(str(folder)).drop_columns(["G"])


@pytest.mark.parametrize("write", [append, compact, delete, other_column, rename_another, drop_another])
@pytest.mark.parametrize("work", ["rename", "cast", "drop", "index"])
def test_a_change_that_another_writer_overtook_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, Storage], None], work: str
) -> None:
    uri = str(tmp_path)
    make(tmp_path).add_columns({"F": "cast(number as float)", "G": "number"})
    open_latest = changing.open_dataset
    overtaken: list[int] = []

    def open_and_be_overtaken(location: Location) -> lance.LanceDataset:
        dataset = open_latest(location)
        if not overtaken:
            write(tmp_path, PLAIN)
            overtaken.append(lance.dataset(uri).version)
        return dataset

    monkeypatch.setattr(changing, "open_dataset", open_and_be_overtaken)
    {
        "rename": lambda: rename_column(uri, "F", "FF"),
        "cast": lambda: cast_column(uri, "F", "float64"),
        "drop": lambda: drop_column(uri, "F"),
        "index": lambda: index(uri, "number"),
    }[work]()

    before, after = lance.dataset(uri, version=overtaken[0]), lance.dataset(uri)
    after.validate()
    assert after.to_table(columns=["number"]) == before.to_table(columns=["number"])
    assert [name for name in after.schema.names if name not in ("F", "FF")] == [
        name for name in before.schema.names if name != "F"
    ]
    assert ("F" in after.schema.names) == (work in ("cast", "index"))
    if work == "cast":
        assert after.schema.field("F").type == pa.float64()


def test_a_column_of_another_writer_is_not_taken_for_the_own_one_where_there_are_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, add = str(tmp_path), lance.LanceDataset.add_columns
    lance.write_dataset(pa.table({"A": pa.array([], pa.int32())}), uri)

    def add_second(dataset: lance.LanceDataset, columns: pa.Schema) -> None:
        monkeypatch.undo()
        add(lance.dataset(uri), pa.schema([("X", pa.string())]))
        add(dataset, columns)

    monkeypatch.setattr(lance.LanceDataset, "add_columns", add_second)
    with pytest.raises(ColumnError, match="there is a column 'X' already"):
        add_column(uri, "X", "A + 1")

    assert lance.dataset(uri).schema.field("X").type == pa.string()
    assert add_column(uri, "Y", "A + 1").columns == ("A", "X", "Y")


def test_a_column_that_another_writer_renamed_is_not_taken_for_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, drop = str(tmp_path), lance.LanceDataset.drop_columns
    lance.write_dataset(pa.table({"A": [1], "B": [2]}), uri)

    def drop_second(dataset: lance.LanceDataset, columns: list[str]) -> None:
        monkeypatch.undo()
        rename_column(uri, "B", "C")
        drop(dataset, columns)

    monkeypatch.setattr(lance.LanceDataset, "drop_columns", drop_second)
    with pytest.raises(ColumnError, match="there is no column 'B'"):
        drop_column(uri, "B")

    assert lance.dataset(uri).to_table().to_pylist() == [{"A": 1, "C": 2}]
