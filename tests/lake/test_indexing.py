"""An index of the right kind, which answers as a scan does, whatever comes after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

import datasets
from datasets import STORAGES, Storage, make
from laketag.errors import ColumnError
from laketag.lake.evolving import add_column
from laketag.lake.indexing import index


def make_of_all_types(folder: Path, rows: int = 400) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(rows * 16, dtype=np.float32)), 16)
    columns = {
        "SCORE": pa.array(np.arange(rows, dtype=np.float32)),
        "TAG": [f"tag {n % 3}" for n in range(rows)],
        "caption": [f"the picture of number{n}" for n in range(rows)],
        "key": [f"key{n}" for n in range(rows)],
        "flag": [n % 2 == 0 for n in range(rows)],
        "words": [[f"word{n % 5}"] for n in range(rows)],
        "vector": vectors,
    }
    lance.write_dataset(pa.table(columns), str(folder), max_rows_per_file=100)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("SCORE", "btree"),
        ("TAG", "bitmap"),
        ("caption", "text"),
        ("key", "btree"),
        ("flag", "bitmap"),
        ("words", "list"),
        ("vector", "vector"),
    ],
)
def test_the_kind_follows_from_type_and_values(tmp_path: Path, column: str, kind: str) -> None:
    make_of_all_types(tmp_path)

    report = index(str(tmp_path), column)

    assert (report.kind, report.rows, report.version) == (kind, 400, 2)
    assert report.bytes > 0


def test_words_of_a_caption_are_found(tmp_path: Path) -> None:
    make_of_all_types(tmp_path)
    index(str(tmp_path), "caption")

    found = lance.dataset(str(tmp_path)).to_table(columns=["key"], full_text_query="number7")

    assert found["key"].to_pylist() == ["key7"]


def test_many_vectors_are_quantised_and_neighbours_found(tmp_path: Path) -> None:
    make_of_all_types(tmp_path, 6000)
    index(str(tmp_path), "vector")

    wanted = np.arange(16 * 70, 16 * 71, dtype=np.float32)
    nearest = {"column": "vector", "q": wanted, "k": 1, "nprobes": 20, "refine_factor": 100}
    found = lance.dataset(str(tmp_path)).to_table(columns=["key"], nearest=nearest)

    assert found["key"].to_pylist() == ["key70"]


def test_a_few_vectors_among_many_rows_are_in_the_index(tmp_path: Path) -> None:
    vectors = [[float(n)] * 16 if n < 100 else None for n in range(6000)]
    lance.write_dataset(pa.table({"vector": pa.array(vectors, pa.list_(pa.float32(), 16))}), str(tmp_path))

    report = index(str(tmp_path), "vector")

    assert report.rows == 6000


@pytest.mark.parametrize("storage", STORAGES, ids=str)
def test_rows_that_came_changed_and_went_are_right_in_an_indexed_filter(
    tmp_path: Path, storage: Storage
) -> None:
    uri = str(tmp_path)
    make(tmp_path, storage=storage)
    add_column(uri, "TAG", "case when number < 100 then 'low' else 'high' end")
    index(uri, "TAG")
    lance.dataset(uri).delete("number < 10")
    lance.write_dataset(datasets.table(range(300, 310), storage), uri, mode="append")
    add_column(uri, "TAG", "case when number < 50 then 'low' else 'high' end", replace=True)
    lance.dataset(uri).optimize.compact_files(target_rows_per_fragment=1000)

    assert lance.dataset(uri).count_rows(filter="TAG = 'low'") == 40
    assert lance.dataset(uri).count_rows(filter="TAG = 'high'") == 260
    assert index(uri, "TAG").rows == 300


@pytest.mark.parametrize(
    ("column", "kind", "why"),
    [
        ("jpg", None, "holds bytes"),
        ("nosuch", None, "no column 'nosuch'"),
        ("number", "text", "no text index on column 'number', which is int64"),
        ("number", "vector", "no vector index"),
    ],
)
def test_what_cannot_be_indexed_is_refused_with_what_can(
    tmp_path: Path, column: str, kind: str | None, why: str
) -> None:
    make(tmp_path)

    with pytest.raises(ColumnError, match=why):
        index(str(tmp_path), column, kind)


def test_an_index_of_another_kind_that_came_first_is_not_taken_for_the_own_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_of_all_types(tmp_path)
    build = lance.LanceDataset.create_scalar_index

    def build_second(dataset: lance.LanceDataset, column: str, *args: Any, **named: Any) -> None:
        monkeypatch.undo()
        build(lance.dataset(str(tmp_path)), column, "BITMAP", name=f"{column}_idx", replace=True)
        build(dataset, column, *args, **named)

    monkeypatch.setattr(lance.LanceDataset, "create_scalar_index", build_second)
    report = index(str(tmp_path), "SCORE", "btree")

    [made] = lance.dataset(str(tmp_path)).describe_indices()
    assert (made.index_type, report.kind, report.version) == ("BTree", "btree", 3)
