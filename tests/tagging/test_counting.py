"""What is known of staged labels is counted without a look at them; what is not is looked at."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

import laketag
from datasets import make
from fakes import ByteLength, DigestLabel, FailsAtFirst, FakeModel, RaisesOn
from here import Here, tag
from laketag.taggers.digest import input_digest
from laketag.tagging.committing import _rows_told
from laketag.tagging.settings import Rows, TagSettings
from laketag.tagging.staging import Part, Reader

Span = tuple[int, int, int, int]  # start, stop, rows, failed

DENSE: list[Span] = [(0, 10, 10, 0), (10, 15, 5, 0)]
SPARSE: list[Span] = [(0, 10, 4, 0)]


@pytest.mark.parametrize(
    ("jobs", "rows"),
    [
        ([DENSE], 15),
        ([DENSE[::-1]], 15),
        ([SPARSE], 4),
        ([DENSE, DENSE], 15),
        ([SPARSE, SPARSE], None),  # perhaps other rows
        ([DENSE, SPARSE], None),
        ([[(0, 10, 10, 1)]], None),
        ([[(0, 10, 10, 0), (9, 12, 3, 0)]], None),
    ],
)
def test_rows_are_told_where_nothing_is_in_doubt(jobs: list[list[Span]], rows: int | None) -> None:
    place: Any = [(None, [Part("f", "s", *span[:2], 0, *span[2:]) for span in spans]) for spans in jobs]

    assert _rows_told(place) == rows


def test_only_staged_files_with_failed_rows_are_looked_at_for_reasons(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "d")
    make(tmp_path / "d", rows=60, rows_per_fragment=20)
    looked_at: list[str] = []
    really_read = Reader._read

    def read(self: Reader, name: str) -> pa.Table:
        if self.columns is not None and len(self.columns) == 1:
            looked_at.append(name)
        return really_read(self, name)

    monkeypatch.setattr(Reader, "_read", read)
    settings = TagSettings(chunk_rows=10, batch_size=5)
    report = tag(uri, [RaisesOn(b"image 27 ")], settings=settings)

    assert len(looked_at) == 2  # both of the fragment's chunks
    assert (report.failed, report.computed) == (1, 60)
    assert [(each.rows, each.reason) for each in report.errors] == [(1, "ValueError: a row with image 27")]


class Killed(BaseException):
    """As a process ends: nothing of laketag's catches it."""


@dataclass(frozen=True)
class KilledAtFirst(DigestLabel):
    """As `DigestLabel`, but the first batch of all is the end of its process."""

    folder: str = ""

    def load(self, device: str) -> FakeModel:
        return FakeModel(self.killed_at_first)

    def killed_at_first(self, batch: list[bytes]) -> pa.RecordBatch:
        if not Path(self.folder, "killed").exists():
            Path(self.folder, "killed").touch()
            raise Killed
        return self.predict(batch)


class Again(Here):
    """Gives a task out once more where its process was killed."""

    def run(self, fn: Any, tasks: Sequence[Any], tell: Any = None) -> Generator[Any, None, None]:
        for task in tasks:
            with suppress(Killed):
                yield fn(task)
                continue
            yield fn(task)


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_row_that_two_taggers_stage_at_different_times_is_computed_once(
    tmp_path: Path, is_killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laketag.tagging.compute._STAGE_SECONDS", 0)
    make(tmp_path / "d", rows=200)
    if not is_killed:
        (tmp_path / "killed").touch()

    taggers = [ByteLength(batch_size=8), KilledAtFirst(batch_size=100, folder=str(tmp_path))]
    report = laketag.tag(str(tmp_path / "d"), taggers, engine=Again())

    assert (report.rows, report.computed, report.skipped, report.failed) == (200, 200, 0, 0)


def test_rows_of_two_taggers_count_once(tmp_path: Any) -> None:
    uri = str(tmp_path / "d")
    make(tmp_path / "d", rows=60, rows_per_fragment=20)
    tag(uri, [ByteLength()], rows=Rows(where="number % 2 = 0"))
    tag(uri, [ByteLength(), DigestLabel()], rows=Rows(where="number % 3 = 0"))

    dataset = lance.dataset(uri)
    counted = [
        dataset.read_transaction(version).transaction_properties.get("laketag.rows")
        for version in range(2, dataset.version + 1)
    ]
    assert [each for each in counted if each is not None][-1] == "20"


def staged_twice(folder: Path) -> str:
    """Stage what is said of rows 0 to 4 of 6, in two fragments; of row 1 once more, after it had failed."""
    uri = str(folder / "d")
    make(folder / "d", rows=6, rows_per_fragment=3)
    tagger, staging = FailsAtFirst(str(folder)), TagSettings(stage_only=True)
    tag(uri, [tagger], rows=Rows(where="number < 3"), settings=staging)
    (folder / "mended").touch()
    tag(uri, [tagger], rows=Rows(where="number = 1", retry_errors=True), settings=staging)
    tag(uri, [tagger], rows=Rows(where="number in (3, 4)"), settings=staging)
    return uri


def test_the_newer_label_is_known_whatever_the_clocks_say(tmp_path: Path) -> None:
    make(tmp_path / "d", rows=3)
    uri, tagger = str(tmp_path / "d"), FailsAtFirst(str(tmp_path))
    tag(uri, [tagger], settings=TagSettings(stage_only=True))
    [failed] = (tmp_path / "d" / "_laketag").rglob("*/labels/*/*.lance")
    key, rows, age, version, ending = failed.name.split(".")
    tomorrow = int(age[:20]) + 24 * 3600 * 10**9
    failed.rename(failed.with_name(f"{key}.{rows}.{tomorrow:020d}{age[20:]}.{version}.{ending}"))
    (tmp_path / "mended").touch()

    report = tag(uri, [tagger], rows=Rows(retry_errors=True))

    assert (report.computed, report.failed) == (3, 0)
    assert lance.dataset(uri).count_rows("MENDED_ERROR is null and BYTES is not null") == 3


@pytest.mark.parametrize("is_compacted", [False, True])
def test_of_two_staged_labels_of_a_row_the_newer_is_committed(tmp_path: Path, is_compacted: bool) -> None:
    uri = staged_twice(tmp_path)
    if is_compacted:
        lance.dataset(uri).optimize.compact_files()

    tag(uri, [FailsAtFirst(str(tmp_path))], settings=TagSettings(commit_only=True))

    rows = lance.dataset(uri).to_table().sort_by("number").to_pylist()
    assert [row["BYTES"] is not None for row in rows] == [False, True, False, True, True, False]
    assert [row["MENDED_ERROR"] is not None for row in rows] == [True, False, True, False, False, False]
    digests = [input_digest({"bytes": row["jpg"]}) for row in rows[:5]]
    assert [row["MENDED_DIGEST"] for row in rows] == [*digests, None]


@pytest.mark.parametrize("is_updated", [False, True], ids=["a compaction", "an update"])
def test_rows_that_others_moved_count_once(tmp_path: Path, is_updated: bool) -> None:
    uri, tagger = str(tmp_path / "d"), RaisesOn(b"image 7 ")
    make(tmp_path / "d", rows=60, rows_per_fragment=20)
    tag(uri, [tagger], settings=TagSettings(stage_only=True))
    if is_updated:
        lance.dataset(uri).update({"number": "number"}, where="number between 5 and 9")
    else:
        lance.dataset(uri).optimize.compact_files()

    report = tag(uri, [tagger])

    assert (report.computed, report.staged, report.failed) == (0, 60, 1)
    assert [each.rows for each in report.errors] == [1]
