"""A column file that does not fit its fragment is never committed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import lance
import pyarrow as pa
import pytest
from lance.file import LanceFileWriter

from datasets import make
from laketag.errors import CommitError
from laketag.lake import columns
from laketag.lake.columns import ColumnFile, open_verified, write_column_file, write_verified
from laketag.lake.committing import FragmentColumns, commit_columns
from laketag.lake.dataset import path_of
from laketag.lake.location import Location
from laketag.lake.transactions import transaction_properties

SCHEMA = pa.schema([("SCORE", pa.float32())])


FLOAT = pa.float32()


def batch(rows: int, kind: pa.DataType = FLOAT) -> pa.RecordBatch:
    return pa.record_batch([pa.array(range(rows), kind)], names=["SCORE"])


def test_a_short_file_and_a_mistyped_file_are_refused(tmp_path: Path) -> None:
    dataset, location = make(tmp_path), Location.of(str(tmp_path))
    short = write_column_file(location, dataset.data_storage_version, SCHEMA, [batch(99)])
    other = pa.schema([("SCORE", pa.float64())])
    mistyped = write_column_file(location, dataset.data_storage_version, other, [batch(100, pa.float64())])

    with pytest.raises(CommitError, match="99 rows where the fragment has 100"):
        open_verified(location, short, SCHEMA, 100)
    with pytest.raises(CommitError, match="double"):
        open_verified(location, mistyped, SCHEMA, 100)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (pa.array([1.0] * 100, FLOAT), "does not hold the values of 'SCORE' that were written"),
        (pa.array([None] * 100, FLOAT), "has 100 nulls in 'SCORE' where 0 were written"),
    ],
    ids=["other values", "nulls"],
)
@pytest.mark.parametrize("is_small", [True, False], ids=["small", "large"])
def test_a_file_that_reads_back_other_than_it_was_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: pa.Array, said: str, is_small: bool
) -> None:
    if not is_small:
        monkeypatch.setattr(columns, "_WHOLE_BYTES", 0)
    dataset, location = make(tmp_path), Location.of(str(tmp_path))
    real = LanceFileWriter.write_batch
    wrong = pa.record_batch([written], names=["SCORE"])
    monkeypatch.setattr(LanceFileWriter, "write_batch", lambda writer, _: real(writer, wrong))

    with pytest.raises(CommitError, match=said):
        write_verified(location, dataset.data_storage_version, SCHEMA, [batch(100)], rows=100)


def test_every_value_of_a_small_file_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, location = make(tmp_path), Location.of(str(tmp_path))
    real = LanceFileWriter.write_batch
    wrong = pa.record_batch([pa.array([*range(56), 0, *range(57, 100)], FLOAT)], names=["SCORE"])
    monkeypatch.setattr(LanceFileWriter, "write_batch", lambda writer, _: real(writer, wrong))

    with pytest.raises(CommitError, match="does not hold the values of 'SCORE'"):
        write_verified(location, dataset.data_storage_version, SCHEMA, [batch(100)], rows=100)


def test_times_finer_than_pythons_are_read_back_from_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "_WHOLE_BYTES", 0)
    dataset, location = make(tmp_path), Location.of(str(tmp_path))
    times = pa.record_batch([pa.array(range(100), pa.timestamp("ns"))], names=["SEEN"])

    file = write_verified(location, dataset.data_storage_version, times.schema, [times], rows=100)

    assert file.full == ("SEEN",)


def test_a_file_that_grows_large_is_sampled_from_its_first_row_on(tmp_path: Path) -> None:
    dataset, location = make(tmp_path), Location.of(str(tmp_path))
    witness = columns._Witness()
    batches = [batch(100_000), batch(100_000), batch(100_000)]

    assert list(witness.watched(batches)) == batches
    assert witness.whole is None
    assert witness.rows[:2] == [0, 12_500]
    assert witness.rows[-1] == 299_999
    vectors = pa.array([[float(n)] * 4 for n in range(100_000)], pa.list_(FLOAT, 4))
    both = pa.record_batch([vectors, batch(100_000)["SCORE"]], names=["VECTOR", "SCORE"])
    file = write_verified(location, dataset.data_storage_version, both.schema, [both], rows=100_000)
    assert file.rows == 100_000


def test_values_that_are_no_number_are_equal_to_themselves(tmp_path: Path) -> None:
    dataset, location = make(tmp_path), Location.of(str(tmp_path))
    values = pa.record_batch([pa.array([float("nan"), None, 1.0], FLOAT)], names=["SCORE"])

    file = write_verified(location, dataset.data_storage_version, SCHEMA, [values], rows=3)

    assert file.rows == 3


def test_an_existing_column_is_replaced_where_it_lies_with_others(tmp_path: Path) -> None:
    make(tmp_path).add_columns({"SCORE": "cast(number as float)"})
    location = Location.of(str(tmp_path))

    def prepare(dataset: lance.LanceDataset) -> list[FragmentColumns]:
        file = write_column_file(location, dataset.data_storage_version, SCHEMA, [batch(100)])
        return [FragmentColumns(1, file)]

    commit_columns(location, SCHEMA, prepare, {"laketag.job": "abc"})

    dataset = lance.dataset(str(tmp_path))
    dataset.validate()
    rows = dataset.to_table(columns=["number", "SCORE"]).to_pylist()
    assert all(row["SCORE"] == row["number"] - (100 if 100 <= row["number"] < 200 else 0) for row in rows)
    assert (transaction_properties(dataset, dataset.version) or {})["laketag.job"] == "abc"


def test_a_column_of_another_type_is_not_replaced(tmp_path: Path) -> None:
    make(tmp_path).add_columns({"SCORE": "'text'"})
    unit = FragmentColumns(0, ColumnFile("never.lance", 100, 1))

    with pytest.raises(CommitError, match="'SCORE' is string now"):
        commit_columns(Location.of(str(tmp_path)), SCHEMA, lambda dataset: [unit], {})


def test_a_lost_acknowledgement_ends_in_one_version_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    location = Location.of(str(tmp_path))
    really_commit = lance.LanceDataset.commit
    prepared = []

    def commit_and_lose_the_answer(*given: object, **named: object) -> None:
        really_commit(*given, **named)
        raise OSError("connection reset")

    def prepare(dataset: lance.LanceDataset) -> list[FragmentColumns]:
        prepared.append(dataset.version)
        file = write_column_file(location, dataset.data_storage_version, SCHEMA, [batch(100)])
        return [FragmentColumns(1, file)]

    monkeypatch.setattr(lance.LanceDataset, "commit", commit_and_lose_the_answer)
    version = commit_columns(location, SCHEMA, prepare, {})

    assert (version.number, prepared) == (2, [1])
    assert lance.dataset(str(tmp_path)).count_rows("SCORE is not null") == 100


def test_where_nothing_is_left_to_say_no_version_is_made(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    dataset.delete("number >= 0")

    version = commit_columns(Location.of(str(tmp_path)), SCHEMA, lambda dataset: [], {})

    assert (version.number, version.fragments) == (2, 0)


def test_the_name_of_a_data_file_is_the_one_that_pylance_tells(tmp_path: Path) -> None:
    [file] = make(tmp_path, 1).get_fragments()[0].metadata.files

    assert path_of(file) == str(file.path)
    assert path_of(SimpleNamespace(path="later.lance")) == "later.lance"
