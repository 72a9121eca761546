"""A column file that does not fit its fragment is never committed."""

from __future__ import annotations

from pathlib import Path

import lance
import pyarrow as pa
import pytest

from datasets import make
from laketag.errors import CommitError
from laketag.lake.columns import verify_column_file, write_column_file
from laketag.lake.committing import FragmentColumns, commit_columns, transaction_properties
from laketag.lake.location import Location

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
        verify_column_file(location, short, SCHEMA, 100)
    with pytest.raises(CommitError, match="double"):
        verify_column_file(location, mistyped, SCHEMA, 100)


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

    with pytest.raises(CommitError, match="'SCORE' is string now"):
        commit_columns(Location.of(str(tmp_path)), SCHEMA, lambda dataset: [], {})
