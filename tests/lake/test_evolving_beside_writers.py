"""Columns that come, go, and change name or type while others write: what they wrote is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lance
import pyarrow as pa
import pytest

import datasets
from datasets import PARITY, PLAIN, Storage, make, parity, values
from laketag.errors import ColumnError
from laketag.lake import changing, deriving
from laketag.lake.committing import FragmentColumns
from laketag.lake.evolving import add_column, cast_column, drop_column, rename_column
from laketag.lake.indexing import index
from laketag.lake.location import Location

UNSTABLE = Storage("binary", "2.0", False)


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
