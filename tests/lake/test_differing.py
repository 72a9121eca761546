"""Rows, columns and labels that changed between two versions."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

import datasets
from datasets import PLAIN, STORAGES, Storage, make
from fakes import DigestLabel
from here import tag
from laketag.errors import DatasetError
from laketag.lake.differing import LabelChange, diff, rows_moved
from laketag.lake.evolving import add_column, cast_column, drop_column, rename_column
from laketag.lake.history import restore, versions
from laketag.taggers.decorated import tagger
from laketag.tagging.settings import Rows

UNSTABLE = Storage("binary", "2.0", False)
BOTH = pytest.mark.parametrize("storage", [PLAIN, UNSTABLE], ids=str)
PARITY = "case when number % 2 = 0 then 'even' else 'odd' end"


def append(folder: Path, numbers: range, storage: Storage = PLAIN) -> None:
    lance.write_dataset(datasets.table(numbers, storage), str(folder), mode="append")


@pytest.mark.parametrize("storage", STORAGES, ids=str)
def test_rows_that_came_and_went_are_counted(tmp_path: Path, storage: Storage) -> None:
    make(tmp_path, 300, storage=storage).delete("number % 7 = 0")
    before = lance.dataset(str(tmp_path)).version
    append(tmp_path, range(300, 310), storage)
    lance.dataset(str(tmp_path)).delete("number = 1 or number = 305")
    append(tmp_path, range(310, 315), storage)

    report = diff(str(tmp_path), before, lance.dataset(str(tmp_path)).version)

    assert (report.rows_added, report.rows_removed) == (14, 1)
    assert (report.rows_before, report.rows_after) == (257, 270)
    assert report.has_row_ids is storage.stable_row_ids


@BOTH
def test_compaction_neither_adds_nor_removes_rows(tmp_path: Path, storage: Storage) -> None:
    make(tmp_path, storage=storage).delete("number < 5")
    lance.dataset(str(tmp_path)).optimize.compact_files(target_rows_per_fragment=1000)
    append(tmp_path, range(300, 303), storage)

    report = diff(str(tmp_path), 1, lance.dataset(str(tmp_path)).version)

    assert (report.rows_added, report.rows_removed) == ((3, 5) if storage.stable_row_ids else (0, 2))


def test_an_updated_row_is_the_same_row_where_there_are_row_ids(tmp_path: Path) -> None:
    make(tmp_path).update({"number": "number + 1000"}, where="number < 3")

    report = diff(str(tmp_path), 1, 2)

    assert (report.rows_added, report.rows_removed) == (0, 0)


def test_columns_that_came_went_and_changed_are_named(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    for name in ("OLD", "GONE"):
        add_column(uri, name, "cast(number as float)")
    before = lance.dataset(uri).version
    rename_column(uri, "OLD", "NEW")
    drop_column(uri, "GONE")
    cast_column(uri, "number", "int32")
    add_column(uri, "COME", "'x'")

    report = diff(uri, before, lance.dataset(uri).version).to_json()

    assert report["columns_added"] == ({"name": "COME", "type": "string"},)
    assert report["columns_removed"] == ({"name": "GONE", "type": "float"},)
    assert report["columns_renamed"] == ({"before": "OLD", "after": "NEW", "name": "NEW"},)
    assert report["columns_retyped"] == ({"before": "int64", "after": "int32", "name": "number"},)
    assert json.loads(json.dumps(report)) is not None


def test_a_field_id_that_a_restore_gave_out_again_is_no_rename(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    add_column(uri, "A", "number")
    restore(uri, 1)
    add_column(uri, "B", "number")

    report = diff(uri, 2, 4)

    assert report.columns_renamed == ()
    assert [each.name for each in (*report.columns_removed, *report.columns_added)] == ["A", "B"]


@BOTH
def test_labels_that_moved_are_a_from_to_table(tmp_path: Path, storage: Storage) -> None:
    uri = str(tmp_path)
    make(tmp_path, storage=storage)
    add_column(uri, "TAG", PARITY)
    before = versions(uri, tag="first").versions[-1].version
    lance.dataset(uri).delete("number >= 290")
    add_column(
        uri,
        "TAG",
        f"case when number < 10 then 'small' when number = 11 then null else {PARITY} end",
        replace=True,
    )

    [moved] = diff(uri, "first", lance.dataset(uri).version).labels

    assert before == 2
    assert (moved.column, moved.compared, moved.moved) == ("TAG", 290, 11)
    assert moved.changes == (
        LabelChange("even", "small", 5),
        LabelChange("odd", "small", 5),
        LabelChange("odd", None, 1),
    )


def test_labels_of_rows_that_moved_are_found_again(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    add_column(uri, "TAG", PARITY)
    lance.dataset(uri).update({"TAG": "'none'"}, where="number = 150")
    lance.dataset(uri).optimize.compact_files(target_rows_per_fragment=1000)
    rename_column(uri, "TAG", "KIND")

    [moved] = diff(uri, 2, lance.dataset(uri).version).labels

    assert (moved.column, moved.compared, moved.changes) == ("KIND", 300, (LabelChange("even", "none", 1),))


def test_a_score_counts_what_moved_and_has_no_table_of_values(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    add_column(uri, "SCORE", "case when number < 7 then null else cast(number as float) end")
    add_column(
        uri,
        "SCORE",
        "case when number = 100 then null else case when number < 10 then 1 else number end end",
        replace=True,
    )

    [moved] = diff(uri, 2, lance.dataset(uri).version).labels

    assert moved.moved == 11
    assert moved.changes == (
        LabelChange(None, "(a value)", 7),
        LabelChange("(a value)", "(a value)", 3),
        LabelChange("(a value)", None, 1),
    )


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float32(), 2), pa.list_(pa.float16(), 2), pa.list_(pa.float64()), pa.list_(pa.int8(), 2)],
    ids=str,
)
def test_vectors_and_lists_that_moved_are_counted(tmp_path: Path, kind: pa.DataType) -> None:
    uri = str(tmp_path)
    values: list[list[int] | None] = [[1, 2], [3, 4], None, [5, 6], None]
    label = pa.field("VECTOR", kind, metadata={"laketag": "{}"})

    def table(rows: list[list[int] | None]) -> pa.Table:
        held = {"__key__": pa.array(list("abcde")), "VECTOR": pa.array(rows, kind)}
        return pa.table(held, pa.schema([pa.field("__key__", pa.string()), label]))

    lance.write_dataset(table(values), uri, enable_stable_row_ids=True, data_storage_version="2.1")
    changed = table([[1, 2], [3, 5], [7, 8], None, None])
    merge = lance.dataset(uri).merge_insert("__key__").when_matched_update_all()
    merge.execute(changed)

    [same] = diff(uri, 1, 1).labels
    [moved] = diff(uri, 1, 2).labels

    assert (same.moved, same.changes) == (0, ())
    assert moved.moved == 3
    assert set(moved.changes) == {
        LabelChange("(a value)", "(a value)", 1),
        LabelChange(None, "(a value)", 1),
        LabelChange("(a value)", None, 1),
    }


@BOTH
def test_a_column_that_took_the_name_of_another_one_is_compared(tmp_path: Path, storage: Storage) -> None:
    uri = str(tmp_path)
    table = pa.table({"tag": ["a", "b", "c"], "other": ["a", "x", "c"]})
    stable = storage.stable_row_ids
    lance.write_dataset(table, uri, enable_stable_row_ids=stable, data_storage_version=storage.version)
    drop_column(uri, "tag")
    report = rename_column(uri, "other", "tag")

    [moved] = diff(uri, 1, report.version).labels

    assert (moved.compared, moved.changes) == (3, (LabelChange("b", "x", 1),))


def test_a_list_without_a_number_in_it_is_equal_to_itself(tmp_path: Path) -> None:
    kind = pa.list_(pa.float64())
    schema = pa.schema([pa.field("__key__", pa.string()), pa.field("L", kind, metadata={"laketag": "{}"})])
    table = pa.table({"__key__": list("ab"), "L": pa.array([[float("nan")], [1.0]], kind)}, schema)
    lance.write_dataset(table, str(tmp_path), enable_stable_row_ids=True, data_storage_version="2.1")
    lance.dataset(str(tmp_path)).merge_insert("__key__").when_matched_update_all().execute(table)

    [same] = diff(str(tmp_path), 1, 2).labels

    assert (same.compared, same.moved) == (2, 0)


def test_times_in_nanoseconds_that_moved_are_told_to_the_microsecond(tmp_path: Path) -> None:
    make(tmp_path, 3)
    add_column(str(tmp_path), "SEEN", "to_timestamp_nanos(1999 + number)")
    before = lance.dataset(str(tmp_path)).version
    report = add_column(str(tmp_path), "SEEN", "to_timestamp_nanos(1999 - number)", replace=True)

    [moved] = diff(str(tmp_path), before, report.version).labels

    assert moved.moved == 2
    assert moved.changes == (
        LabelChange(datetime(1970, 1, 1, microsecond=2), datetime(1970, 1, 1, microsecond=1), 2),
    )


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.struct([("a", pa.list_(pa.string()))])], ids=str)
def test_a_column_with_fields_inside_that_was_written_anew_is_compared(
    tmp_path: Path, kind: pa.DataType
) -> None:
    def lister(word: str) -> Any:
        @tagger(columns={"WORDS": kind}, reads=("bytes",), name="lister")
        def listed(values: list[bytes]) -> dict[str, list[Any]]:
            return {"WORDS": [[word] if pa.types.is_list(kind) else {"a": [word]} for _ in values]}

        return listed

    make(tmp_path, 30)
    before = tag(str(tmp_path), [lister("one")]).version_after
    after = tag(str(tmp_path), [lister("two")], rows=Rows(recompute=True)).version_after

    labels = {each.column: each.moved for each in diff(str(tmp_path), before, after).labels}

    assert labels == {"WORDS": 30, "LISTER_ERROR": 0}


@pytest.mark.slow
def test_rows_labelled_since_are_labels_that_moved_from_nothing(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    tag(uri, [DigestLabel()])
    append(tmp_path, range(300, 360))
    before = lance.dataset(uri).version
    tag(uri, [DigestLabel()])

    labels = {each.column: each for each in diff(uri, before, lance.dataset(uri).version).labels}

    assert labels["SHA256"].changes == (LabelChange(None, "(a value)", 60),)
    assert labels["SHA256"].compared == 360
    assert not any(name.endswith("_DIGEST") for name in labels)


def test_rows_with_another_label_are_found_wherever_they_lie_now(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    add_column(uri, "TAG", PARITY)
    lance.dataset(uri).update({"TAG": "'none'"}, where="number in (7, 150, 220)")
    append(tmp_path, range(300, 310))
    lance.dataset(uri).delete("number = 220 or number = 3")
    lance.dataset(uri).optimize.compact_files(target_rows_per_fragment=1000)
    add_column(
        uri,
        "TAG",
        f"case when number = 40 then null when TAG = 'none' then TAG else {PARITY} end",
        replace=True,
    )
    before, after = lance.dataset(uri, version=2), lance.dataset(uri)

    found = set(rows_moved(before, after, "TAG").tolist())

    rows = after.to_table(["number"], with_row_id=True)
    moved = {
        n
        for n, row in zip(rows["number"].to_pylist(), rows["_rowid"].to_pylist(), strict=True)
        if row in found
    }
    assert moved == {7, 40, 150}
    assert len(found) == 3
    assert rows_moved(after, after, "TAG").tolist() == []


def test_a_column_of_another_program_is_compared_where_it_has_few_values(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path).add_columns({"THEIRS": "'a'", "CAPTION": "cast(number as string)"})
    lance.dataset(uri).update({"THEIRS": "'b'", "CAPTION": "CAPTION || '!'"}, where="number < 100")

    [moved] = diff(uri, 2, 3).labels

    assert (moved.column, moved.changes) == ("THEIRS", (LabelChange("a", "b", 100),))


def test_a_version_is_no_different_from_itself(tmp_path: Path) -> None:
    make(tmp_path)
    add_column(str(tmp_path), "TAG", PARITY)

    report = diff(str(tmp_path), 2, 2)

    assert (report.rows_added, report.rows_removed, report.columns_added) == (0, 0, ())
    assert [(each.compared, each.moved) for each in report.labels] == [(300, 0)]
    with pytest.raises(DatasetError):
        diff(str(tmp_path), 1, "nosuch")


def test_a_dataset_that_lost_all_rows_is_compared(tmp_path: Path) -> None:
    make(tmp_path)
    add_column(str(tmp_path), "TAG", PARITY)
    lance.dataset(str(tmp_path)).delete("true")

    report = diff(str(tmp_path), 2, 3)

    assert (report.rows_added, report.rows_removed) == (0, 300)


def test_it_reads_no_image(tmp_path: Path) -> None:
    images = pa.array([bytes(100_000)] * 100, pa.large_binary())
    lance.write_dataset(pa.table({"jpg": images, "number": range(100)}), str(tmp_path))

    assert diff(str(tmp_path), 1, 1).labels == ()
