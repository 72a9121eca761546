"""New rows, where another import adds the same ones at the same moment."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from lance.commit import CommitConflictError

from laketag.errors import CommitError
from laketag.lake.adding import DataFileOf, NewFragment, append_fragments, create_dataset
from laketag.lake.location import Location
from laketag.lake.writing import STORAGE_VERSION, DataFileWriter

SCHEMA = pa.schema([("shard", pa.string())])


def rows_of(location: Location, shard: str) -> list[NewFragment]:
    """Write three rows of a shard that no version has yet."""
    writer = DataFileWriter(location, STORAGE_VERSION, SCHEMA)
    writer.write(pa.record_batch([[shard] * 3], schema=SCHEMA))
    file = writer.close()
    return [NewFragment(file.rows, (DataFileOf(file.name, ("shard",), file.size),))]


def shards(dataset: lance.LanceDataset) -> list[str]:
    return list(dataset.to_table()["shard"].to_pylist())


def test_two_that_look_at_the_same_moment_do_not_both_add_their_rows(tmp_path: Path) -> None:
    location = Location.of(str(tmp_path / "data"))
    create_dataset(location, SCHEMA, rows_of(location, "a"), {})
    refused: list[CommitError] = []

    def look(dataset: lance.LanceDataset) -> None:
        if "b" in shards(dataset):
            raise CommitError("the shard is there")

    def add_too() -> None:
        try:
            append_fragments(location, SCHEMA, rows_of(location, "b"), {}, look, lambda: None)
        except CommitError as error:
            refused.append(error)

    other = threading.Thread(target=add_too)

    def look_and_dawdle(dataset: lance.LanceDataset) -> None:
        look(dataset)
        other.start()
        other.join(timeout=1)  # long enough for it to be done, if no one keeps it waiting

    append_fragments(location, SCHEMA, rows_of(location, "b"), {}, look_and_dawdle, lambda: None)
    other.join()

    assert shards(lance.dataset(location.uri)) == ["a"] * 3 + ["b"] * 3
    assert len(refused) == 1


BUSY = "Generic S3 error: Error performing PUT http://h/b in 1ms - Server returned non-2xx status code: 503"


@pytest.mark.parametrize(
    "said", [CommitConflictError("commit conflict for version 2"), OSError(BUSY), RuntimeError(BUSY)]
)
def test_an_attempt_that_arrived_and_was_said_to_have_failed_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Exception
) -> None:
    location = Location.of(str(tmp_path / "data"))
    create_dataset(location, SCHEMA, rows_of(location, "a"), {})
    really_commit = lance.LanceDataset.commit

    def commit(*arguments: Any, **options: Any) -> None:
        monkeypatch.undo()
        really_commit(*arguments, **options)
        raise said

    monkeypatch.setattr(lance.LanceDataset, "commit", commit)

    append_fragments(location, SCHEMA, rows_of(location, "b"), {}, lambda _: None, lambda: None)

    assert shards(lance.dataset(location.uri)) == ["a"] * 3 + ["b"] * 3
