"""Commits of column files, where others commit all the time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

import writers
from laketag.errors import CommitError
from laketag.lake.columns import write_column_file
from laketag.lake.committing import FragmentColumns, Version, _reserve, commit_columns
from laketag.lake.location import Location
from laketag.lake.transactions import ATTEMPTS

TWICE = pa.schema([pa.field("TWICE", pa.int64(), metadata={"laketag": "{}"})])
OTHER = pa.schema([pa.field("OTHER", pa.int64())])


def commit(uri: str, columns: pa.Schema, meanwhile: Callable[[], object]) -> Version:
    """Commit twice the number, on every fragment, with another writer at work after every read."""
    location = Location.of(uri)

    def prepare(dataset: lance.LanceDataset) -> list[FragmentColumns]:
        found = []
        for fragment in dataset.get_fragments():
            rows = fragment.metadata.physical_rows
            values = [pa.array(range(rows), pa.int64())] * len(columns)
            batch = pa.record_batch(values, schema=pa.schema([(f.name, f.type) for f in columns]))
            file = write_column_file(location, dataset.data_storage_version, columns, [batch])
            found.append(FragmentColumns(fragment.fragment_id, file))
        meanwhile()
        return found

    return commit_columns(location, columns, prepare, {"laketag.job": "a test"})


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return writers.make(tmp_path / "data", stable_row_ids=True)


def test_new_columns_are_one_version(uri: str) -> None:
    made = commit(uri, TWICE, lambda: None)

    assert (made.number, made.reserved) == (3, None)


@pytest.mark.slow
def test_where_others_commit_after_every_read_the_columns_are_made_first(uri: str) -> None:
    made = commit(uri, TWICE, lambda: writers.append(uri))

    dataset = lance.dataset(uri)
    assert made.reserved is not None
    assert made.reserved < made.number == dataset.version
    assert dataset.schema.field("TWICE").metadata == {b"laketag": b"{}"}
    assert dataset.count_rows("TWICE is not null") == dataset.count_rows() - 10
    assert lance.dataset(uri, version=made.reserved).count_rows("TWICE is not null") == 0
    assert dataset.read_transaction(made.reserved).transaction_properties["laketag.job"] == "a test"


def test_columns_that_exist_are_committed_although_others_append_and_configure(uri: str) -> None:
    commit(uri, TWICE, lambda: None)

    def meanwhile() -> None:
        writers.append(uri)
        writers.configure(uri)

    made = commit(uri, TWICE, meanwhile)

    assert made.reserved is None
    assert lance.dataset(uri).count_rows("TWICE is null") == 10


@pytest.mark.parametrize("is_meanwhile", [False, True], ids=["before", "meanwhile"])
def test_columns_beside_an_indexed_one_do_not_mislead_the_index(uri: str, is_meanwhile: bool) -> None:
    commit(uri, TWICE, lambda: None)
    lance.dataset(uri).update({"TWICE": "-1"})

    def index() -> None:
        lance.dataset(uri).create_scalar_index("TWICE", "BTREE")

    if not is_meanwhile:
        index()

    made = commit(uri, pa.schema([*TWICE, *OTHER]), index if is_meanwhile else lambda: None)

    assert made.reserved is not None
    assert lance.dataset(uri).count_rows("TWICE = -1") == 0
    assert lance.dataset(uri).count_rows("TWICE = 7") == lance.dataset(uri).count_rows("OTHER = 7") > 0


def test_columns_that_are_made_first_undo_no_change_of_metadata(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge_columns = lance.fragment.LanceFragment.merge_columns

    def meddled(*args: Any, **options: Any) -> Any:
        made = merge_columns(*args, **options)
        if not (lance.dataset(uri).schema.field("extra").metadata or {}):
            lance.dataset(uri).update_field_metadata({"extra": {"made_by": "another"}})
        return made

    monkeypatch.setattr(lance.fragment.LanceFragment, "merge_columns", meddled)

    _reserve(Location.of(uri), lance.dataset(uri), TWICE, {})
    commit(uri, TWICE, lambda: None)

    assert lance.dataset(uri).schema.field("extra").metadata == {b"made_by": b"another"}


@pytest.mark.slow
def test_where_others_change_every_row_all_the_time_it_ends_in_one_line(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    tries = []

    def meanwhile() -> None:
        tries.append(1)
        lance.dataset(uri).update({"extra": "extra + 1"})

    with pytest.raises(CommitError, match=f"during each of {ATTEMPTS} attempts") as raised:
        commit(uri, TWICE, meanwhile)

    assert "\n" not in str(raised.value)
    assert len(tries) == ATTEMPTS
    assert lance.dataset(uri).count_rows("TWICE is not null") == 0


@pytest.mark.parametrize("version", ["2.0", "2.1", "2.2"])
@pytest.mark.parametrize(
    "kind", [pa.list_(pa.string()), pa.large_list(pa.string()), pa.list_(pa.list_(pa.string()))], ids=str
)
def test_columns_of_lists_are_readable_in_every_storage(
    tmp_path: Path, kind: pa.DataType, version: str
) -> None:
    uri = str(tmp_path / "data")
    lance.write_dataset(
        pa.table({"number": range(20)}), uri, max_rows_per_file=10, data_storage_version=version
    )
    columns = pa.schema([("WORDS", kind), ("COUNT", pa.int64())])

    for word in ("first", "second"):
        commit_words(uri, columns, word)
        table = lance.dataset(uri).to_table()

        assert word in str(table["WORDS"][19].as_py())
        assert table["COUNT"].to_pylist() == [len(word)] * 20


def test_an_index_on_a_column_of_lists_is_told_of_new_values(uri: str) -> None:
    columns = pa.schema([("WORDS", pa.list_(pa.string())), ("COUNT", pa.int64())])
    commit_words(uri, columns, "old")
    lance.dataset(uri).create_scalar_index("WORDS", "LABEL_LIST")

    commit_words(uri, columns, "new")

    dataset = lance.dataset(uri)
    found = [dataset.count_rows(f"array_has(WORDS, '{word}')") for word in ("old", "new")]
    assert found == [0, dataset.count_rows()]


def commit_words(uri: str, columns: pa.Schema, word: str) -> None:
    """Give every row a list with a word, and the word's length."""
    location = Location.of(uri)
    is_deep = pa.types.is_list(columns.field("WORDS").type.value_type)

    def prepare(dataset: lance.LanceDataset) -> list[FragmentColumns]:
        found = []
        for fragment in dataset.get_fragments():
            rows = fragment.metadata.physical_rows
            row = {"WORDS": [[word]] if is_deep else [word], "COUNT": len(word)}
            batch = pa.RecordBatch.from_pylist([row] * rows, schema=columns)
            file = write_column_file(location, dataset.data_storage_version, columns, [batch])
            found.append(FragmentColumns(fragment.fragment_id, file))
        return found

    commit_columns(location, columns, prepare, {})


def test_of_what_a_store_refuses_the_codes_are_told(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "LanceError(IO): Generic S3 error: Error performing PUT http://h/b in 1ms - Server returned non-2xx "
        "status code: 403 Forbidden: <Error><Code>AccessDenied</Code><Key>KEY</Key></Error>"
    )

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(said)

    monkeypatch.setattr(lance.LanceDataset, "commit", refuse)

    with pytest.raises(CommitError, match="the store said 403 Forbidden AccessDenied") as raised:
        commit(uri, TWICE, lambda: None)
    assert "KEY" not in str(raised.value)
