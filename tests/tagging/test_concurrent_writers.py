"""Others write between the last row computed and the commit: both sides' work is there afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
import pytest

import datasets
from datasets import PLAIN, Storage, labels, make, right_label
from fakes import ByteLength, CountingTagger, DigestLabel, predicted
from laketag.engines.local import Local
from laketag.tagging.run import tag

STORAGES = [PLAIN, Storage("binary", "2.0", False)]


@dataclass(frozen=True)
class Meddling:
    """The local engine, and another writer at work before its last result is given."""

    meddle: Callable[[], Any]

    def run(self, fn: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
        results = list(Local().run(fn, tasks))
        self.meddle()
        yield from results


@pytest.mark.parametrize("storage", STORAGES, ids=str)
@pytest.mark.parametrize("has_columns", [False, True], ids=["new columns", "existing columns"])
def test_writes_of_others_are_kept_and_no_label_is_misplaced(
    tmp_path: Path, storage: Storage, has_columns: bool
) -> None:
    uri = str(tmp_path)
    make(tmp_path, 300, storage=storage)
    if has_columns:
        tag(uri, [DigestLabel()])
        _append(uri, range(300, 330))

    def meddle() -> None:
        dataset = lance.dataset(uri)
        dataset.delete("number < 20")
        dataset.delete("number >= 100 and number < 200")  # a whole fragment
        dataset.add_columns({"doubled": "number * 2"})
        _append(uri, range(400, 410))
        lance.dataset(uri).create_scalar_index("number", "BTREE")

    tag(uri, [DigestLabel()], engine=Meddling(meddle))

    found = labels(tmp_path)
    old = [*range(20, 100), *range(200, 330 if has_columns else 300)]
    assert found == {**{n: right_label(n) for n in old}, **dict.fromkeys(range(400, 410))}
    rows = lance.dataset(uri).to_table(columns=["number", "doubled"], filter="number < 300").to_pylist()
    assert all(row["doubled"] == row["number"] * 2 for row in rows)


def test_an_image_replaced_meanwhile_is_not_given_the_old_label(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)

    def replace_one() -> None:
        lance.dataset(uri).update({"jpg": "X'FF'"}, where="number = 5")

    tag(uri, [DigestLabel()], engine=Meddling(replace_one))

    found = labels(tmp_path)
    assert found.pop(5) is None
    assert found == {n: right_label(n) for n in range(300) if n != 5}


def test_a_conflict_costs_no_second_prediction(tmp_path: Path) -> None:
    uri, counted = str(tmp_path / "data"), tmp_path / "counted"
    counted.mkdir()
    make(tmp_path / "data")

    tag(uri, [CountingTagger(str(counted))], engine=Meddling(lambda: _append(uri, range(300, 310))))

    assert len(predicted(counted)) == 300
    assert lance.dataset(uri).count_rows("SHA is not null") == 300


@pytest.mark.parametrize("storage", STORAGES, ids=str)
@pytest.mark.parametrize("target", [30, 1000])
def test_rows_that_compaction_moved_keep_their_labels(tmp_path: Path, storage: Storage, target: int) -> None:
    uri = str(tmp_path)
    make(tmp_path, storage=storage).delete("number % 5 = 1")

    def delete_and_compact_twice() -> None:
        lance.dataset(uri).delete("number % 5 = 2")
        _compact(uri, target)
        lance.dataset(uri).delete("number % 5 = 3")
        _append(uri, range(300, 320))
        _compact(uri, 500)

    tag(uri, [ByteLength(), DigestLabel()], engine=Meddling(delete_and_compact_twice))

    left = [n for n in range(300) if n % 5 in (0, 4)]
    assert labels(tmp_path) == {
        **{n: right_label(n) for n in left},
        **dict.fromkeys(range(300, 320)),
    }
    assert tag(uri, [DigestLabel()]).computed == 20


def test_work_that_was_staged_before_a_compaction_is_found_after_it(tmp_path: Path) -> None:
    uri, counted = str(tmp_path / "data"), tmp_path / "counted"
    counted.mkdir()
    make(tmp_path / "data")

    with pytest.raises(RuntimeError, match="driver is gone"):
        tag(uri, [CountingTagger(str(counted))], engine=Meddling(_die))
    _compact(uri, 1000)
    report = tag(uri, [CountingTagger(str(counted))])

    assert (report.computed, report.skipped) == (0, 300)
    assert lance.dataset(uri).count_rows("SHA is null") == 0
    assert len(predicted(counted)) == 300


def _die() -> None:
    raise RuntimeError("the driver is gone")


def _compact(uri: str, target: int) -> None:
    lance.dataset(uri).optimize.compact_files(
        target_rows_per_fragment=target, materialize_deletions_threshold=0.0
    )


def _append(uri: str, numbers: range) -> None:
    lance.dataset(uri).insert(datasets.table(numbers))
