"""What a run costs grows with fragments and chunks, never with their square, and in the driver not with rows.

Nothing is timed: calls, files and bytes are counted.
"""

from __future__ import annotations

import pickle
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import lance
import numpy as np
import pyarrow as pa
import pytest
from lance.file import LanceFileSession

from datasets import labels, make, right_label, table
from fakes import DigestLabel, FakeModel
from here import Here
from laketag.lake.dataset import open_dataset
from laketag.lake.location import Location
from laketag.tagging.preparing import Run, jobs_of, look, plan
from laketag.tagging.run import tag
from laketag.tagging.settings import Rows, TagSettings

pytestmark = pytest.mark.slow

ROWS = 10
"""Of a fragment, and of a chunk where there are ten fragments in each."""


@dataclass(frozen=True)
class Vector:
    """A wide label: 2 KB a row."""

    name: ClassVar[str] = "vector"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema([("VECTOR", pa.list_(pa.float32(), 512))])

    def load(self, device: str) -> FakeModel:
        return FakeModel(self.predict)

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        values = np.arange(512 * len(batch), dtype=np.float32)
        return pa.record_batch([pa.FixedSizeListArray.from_arrays(values, 512)], schema=self.columns)


def calls(action: Callable[[], object]) -> int:
    """Count the Python functions that are called, in all threads."""
    counted: Counter[int] = Counter()

    def note(frame: object, event: str, argument: object) -> None:
        if event == "call":
            counted[threading.get_ident()] += 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return counted.total()


def settings(chunk_rows: int, **more: Any) -> TagSettings:
    return TagSettings(chunk_rows=chunk_rows, **more)


def staged(folder: Path, fragments: int, rows: int, chunk_rows: int) -> str:
    """Make a dataset of so many fragments, all of whose labels are staged."""
    make(folder, fragments * rows, rows_per_fragment=rows)
    tag(str(folder), [DigestLabel()], settings=settings(chunk_rows, stage_only=True), engine=Here())
    return str(folder)


def committed(uri: str, chunk_rows: int) -> None:
    report = tag(uri, [DigestLabel()], settings=settings(chunk_rows, commit_only=True), engine=Here())
    assert report.version_after == report.version_before + 1


def planned(folder: Path, fragments: int) -> Run:
    location = Location.of(str(folder))
    dataset = make(folder, fragments * ROWS, rows_per_fragment=ROWS)
    few = settings(ROWS)
    todo = jobs_of(dataset.schema, [DigestLabel()], Rows(), few)
    return plan(look(location, open_dataset(location), todo, rows=Rows(), settings=few), few)


def test_the_drivers_calls_grow_with_fragments_and_not_with_their_square(tmp_path: Path) -> None:
    taken = []
    for fragments in (20, 40, 80):
        uri = staged(tmp_path / str(fragments), fragments, ROWS, ROWS)
        taken.append(calls(lambda uri=uri: committed(uri, ROWS)))

    first, second = taken[1] - taken[0], taken[2] - taken[1]
    assert second == pytest.approx(2 * first, rel=0.05)


def test_the_drivers_calls_do_not_grow_with_rows(tmp_path: Path) -> None:
    taken = []
    for rows in (ROWS, 20 * ROWS):
        uri = staged(tmp_path / str(rows), 20, rows, 10 * rows)
        taken.append(calls(lambda uri=uri, rows=rows: committed(uri, 10 * rows)))

    assert taken[1] == pytest.approx(taken[0], rel=0.02)


def test_a_commit_opens_each_column_file_once_and_each_staged_file_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = staged(tmp_path, 100, ROWS, 10 * ROWS)  # ten fragments to a staged file
    really_open, opened = LanceFileSession.open_reader, Counter()

    def count(session: LanceFileSession, path: str, columns: Any = None) -> Any:
        opened["staged" if "labels" in path else "column"] += 1
        return really_open(session, path, columns)

    monkeypatch.setattr(LanceFileSession, "open_reader", count)
    committed(uri, 10 * ROWS)

    # A staged file's footer says where its rows lie and that none failed; then its labels are taken.
    assert opened == {"staged": 2 * 10, "column": 100}


def test_a_commit_takes_as_little_memory_for_a_large_fragment_of_wide_labels(tmp_path: Path) -> None:
    make(tmp_path, 20_000, rows_per_fragment=20_000)
    tag(str(tmp_path), [Vector()], settings=settings(2_000, stage_only=True), engine=Here())
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        tag(str(tmp_path), [Vector()], settings=settings(2_000, commit_only=True), engine=Here())
    finally:
        pa.set_memory_pool(before)

    labels = 20_000 * 512 * 4
    assert 0 < pool.max_memory() < labels / 2


def test_a_task_looks_at_its_own_staged_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = planned(tmp_path, 64)
    really_list, named = LanceFileSession.list, []

    def count(session: LanceFileSession, path: str | None = None) -> list[str]:
        names: list[str] = really_list(session, path)
        named.append(len(names))
        return names

    monkeypatch.setattr(LanceFileSession, "list", count)
    done = [run.compute(task) for task in run.tasks]

    assert sum(len(one.parts[0]) for one in done) == 64
    assert max(named) == 0
    again = run.compute(run.tasks[0])
    assert again.bytes_written == 0
    # It tells what was staged before: where that attempt died, nobody else does.
    assert (again.computed, {*again.parts[0]}) == (done[0].computed, {*done[0].parts[0]})
    assert max(named) == len(run.tasks[0].chunks)


def test_a_task_weighs_the_same_however_many_fragments_there_are(tmp_path: Path) -> None:
    few, many = (planned(tmp_path / str(fragments), fragments) for fragments in (130, 300))

    assert [len(run.tasks[0].chunks) for run in (few, many)] == [8, 8]
    sizes = [len(pickle.dumps(run.tasks[1])) for run in (few, many)]
    assert sizes[1] <= sizes[0] + 100


def test_a_run_with_nothing_to_do_reads_no_row_where_every_row_has_a_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, 10 * ROWS, rows_per_fragment=ROWS).delete("number = 55")
    tag(str(tmp_path), [DigestLabel()], settings=settings(ROWS), engine=Here())
    really_scan, read = lance.LanceDataset.scanner, []
    really_count, counted = lance.LanceDataset.count_rows, []

    def note(dataset: lance.LanceDataset, *given: Any, **more: Any) -> Any:
        read.append([fragment.fragment_id for fragment in more["fragments"]])
        return really_scan(dataset, *given, **more)

    def count(dataset: lance.LanceDataset, **more: Any) -> int:
        counted.append(more.get("filter"))
        rows: int = really_count(dataset, **more)
        return rows

    monkeypatch.setattr(lance.LanceDataset, "scanner", note)
    monkeypatch.setattr(lance.LanceDataset, "count_rows", count)
    report = tag(str(tmp_path), [DigestLabel()], settings=settings(ROWS), engine=Here())

    # The label of a deleted row is null, so that there only a look at the rows tells that none lacks one.
    assert read == [[5]]
    assert counted == [None]
    assert (report.rows, report.computed, report.skipped) == (99, 0, 99)


def test_rows_that_lose_their_label_or_come_later_are_found_beside_complete_fragments(tmp_path: Path) -> None:
    make(tmp_path, 10 * ROWS, rows_per_fragment=ROWS)
    tag(str(tmp_path), [DigestLabel()], settings=settings(ROWS), engine=Here())
    dataset = lance.dataset(str(tmp_path))
    dataset.update({"DIGESTLABEL_DIGEST": "null"}, where="number in (7, 42)")
    lance.write_dataset(table(range(100, 103)), str(tmp_path), mode="append")
    narrow = tag(str(tmp_path), [DigestLabel()], rows=Rows(where="number = 7"), engine=Here())
    report = tag(str(tmp_path), [DigestLabel()], engine=Here())

    assert (narrow.computed, report.computed) == (1, 4)
    assert labels(tmp_path) == {n: right_label(n) for n in range(103)}
    assert tag(str(tmp_path), [DigestLabel()], engine=Here()).computed == 0


def test_commits_on_the_way_do_not_read_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, 30 * ROWS, rows_per_fragment=ROWS)
    really_read, read = lance.LanceDataset.read_transaction, []

    def count(dataset: lance.LanceDataset, version: int) -> Any:
        read.append(version)
        return really_read(dataset, version)

    monkeypatch.setattr(lance.LanceDataset, "read_transaction", count)
    few = settings(ROWS, commit_every=2)
    report = tag(str(tmp_path), [DigestLabel()], settings=few, engine=Here())

    assert report.version_after - report.version_before == 15
    assert read == []
