"""`--recompute`: all rows, also where another maker's columns are in the way, and what is lost by a kill."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import lance
import pyarrow as pa
import pytest

from datasets import labels, make, right_label, staged_files, table
from fakes import CountingTagger, DigestLabel, FailsAtFirst, FakeModel, RaisesOn, predicted
from here import tag
from laketag.errors import JobRefused, TooManyErrors, WrongUsage
from laketag.tagging.settings import Rows, TagSettings

pytestmark = pytest.mark.slow

AGAIN = Rows(recompute=True)
STAGE = TagSettings(stage_only=True)


def made_by(uri: str, column: str) -> dict[str, str]:
    said: dict[str, str] = json.loads(lance.dataset(uri).schema.field(column).metadata[b"laketag"])
    return said


def test_all_rows_are_computed_again_in_one_version(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    first = tag(uri, [DigestLabel()])

    report = tag(uri, [DigestLabel()], rows=AGAIN)

    assert (report.computed, report.skipped) == (300, 0)
    assert report.version_after == first.version_after + 1
    assert labels(tmp_path) == {n: right_label(n) for n in range(300)}
    assert tag(uri, [DigestLabel()]).computed == 0
    assert staged_files(tmp_path) == []


@dataclass(frozen=True)
class Overwrites:
    """Reads one column, and makes one that is there."""

    column: str
    role: str
    name: ClassVar[str] = "overwrites"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.role,)

    @property
    def columns(self) -> pa.Schema:
        return pa.schema([(self.column, pa.int64())])

    def load(self, device: str) -> FakeModel:
        raise NotImplementedError  # it never comes to that


@pytest.mark.parametrize("rows", [Rows(), AGAIN])
@pytest.mark.parametrize(
    "tagger",
    [Overwrites("jpg", "bytes"), Overwrites("number", "number"), Overwrites("jpg", "number")],
    ids=["the image that it reads", "another column that it reads", "the last images"],
)
def test_a_column_that_a_run_reads_is_not_replaced_by_it_and_nobody_is_told_to(
    tmp_path: Path, tagger: Overwrites, rows: Rows
) -> None:
    make(tmp_path)

    with pytest.raises(JobRefused, match="another name") as refused:
        tag(str(tmp_path), [tagger], rows=rows)

    assert "--recompute" not in str(refused.value)
    assert lance.dataset(str(tmp_path)).version == 1


def test_only_the_rows_that_a_filter_selects_are_computed_again(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    tag(uri, [DigestLabel()])

    report = tag(uri, [DigestLabel()], rows=Rows(where="number < 10", recompute=True))

    assert report.computed == 10
    assert labels(tmp_path) == {n: right_label(n) for n in range(300)}


def test_a_broken_recompute_goes_on_and_an_older_staged_label_does_not_count(tmp_path: Path) -> None:
    uri, counts = str(tmp_path / "data"), tmp_path / "counts"
    counts.mkdir()
    make(tmp_path / "data")
    tagger = CountingTagger(str(counts))
    tag(uri, [tagger], settings=STAGE)  # 300 rows that are no work of the recompute
    tag(uri, [tagger], rows=Rows(where="number < 200", recompute=True), settings=STAGE)

    report = tag(uri, [tagger], rows=AGAIN)

    assert report.computed == 100
    assert len(predicted(counts)) == 600
    assert lance.dataset(uri).count_rows("SHA is not null") == 300


def test_columns_of_another_maker_are_refused_with_the_ways_out(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    lance.dataset(uri).add_columns({"SHA256": "'old'"})

    with pytest.raises(JobRefused) as refused:
        tag(uri, [DigestLabel()])

    assert "--recompute" in str(refused.value)
    assert "laketag adopt" in str(refused.value)
    assert "rename-column" in str(refused.value)


@pytest.mark.parametrize("is_whole", [True, False], ids=["all of its columns", "one column of another type"])
def test_columns_of_another_maker_are_replaced_for_all_rows(tmp_path: Path, is_whole: bool) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    if is_whole:
        tag(uri, [DigestLabel(batch_size=4)])
        dataset = lance.dataset(uri)
        dataset.update_field_metadata(
            {"SHA256": {"laketag": json.dumps({"tagger": "other", "job": "0" * 32})}}
        )
    else:
        lance.dataset(uri).add_columns({"SHA256": "number"})

    report = tag(uri, [DigestLabel()], rows=AGAIN)

    assert report.computed == 300
    assert labels(tmp_path) == {n: right_label(n) for n in range(300)}
    assert {made_by(uri, name)["job"] for name in report.columns} == {report.jobs[0]}
    assert tag(uri, [DigestLabel()]).computed == 0


def test_a_part_of_another_makers_column_is_not_replaced(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    lance.dataset(uri).add_columns({"SHA256": "'old'"})
    before = lance.dataset(uri).version

    for rows, settings in [
        (Rows(where="number < 10", recompute=True), TagSettings()),
        (Rows(limit=5, recompute=True), TagSettings()),
        (AGAIN, TagSettings(slice=(1, 2))),
    ]:
        with pytest.raises(JobRefused, match="for a part of the rows only"):
            tag(uri, [DigestLabel()], rows=rows, settings=settings)

    assert lance.dataset(uri).version == before


def test_slices_replace_another_makers_column_when_they_are_committed_together(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    lance.dataset(uri).add_columns({"SHA256": "'old'"})
    for k in (1, 2):
        settings = TagSettings(slice=(k, 2), stage_only=True, chunk_rows=40)
        tag(uri, [DigestLabel()], rows=AGAIN, settings=settings)

    report = tag(uri, [DigestLabel()], rows=AGAIN, settings=TagSettings(commit_only=True))

    assert report.computed == 0
    assert labels(tmp_path) == {n: right_label(n) for n in range(300)}


def test_another_makers_column_stays_while_a_slice_is_not_staged(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    lance.dataset(uri).add_columns({"SHA256": "'old'"})
    lance.dataset(uri).delete("number = 7")
    for k in (1, 2):
        with pytest.raises(JobRefused, match="staged"):
            tag(uri, [DigestLabel()], rows=AGAIN, settings=TagSettings(commit_only=True))
        assert lance.dataset(uri).count_rows("SHA256 = 'old'") == 299
        tag(uri, [DigestLabel()], rows=AGAIN, settings=replace(STAGE, slice=(k, 2), chunk_rows=20))

    tag(uri, [DigestLabel()], rows=AGAIN, settings=TagSettings(commit_only=True))

    assert labels(tmp_path) == {n: right_label(n) for n in range(300) if n != 7}


def test_a_recompute_does_not_commit_on_the_way(tmp_path: Path) -> None:
    make(tmp_path)

    with pytest.raises(WrongUsage, match="leave one of them out"):
        tag(str(tmp_path), [DigestLabel()], rows=AGAIN, settings=TagSettings(commit_every=1))


def test_rows_that_come_while_another_makers_column_is_replaced_are_computed_next(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    lance.dataset(uri).add_columns({"SHA256": "'old'"})
    tag(uri, [DigestLabel()], rows=AGAIN, settings=STAGE)
    row = pa.table({"jpg": pa.array([b"late"]), "number": [300], "SHA256": ["old"]})
    lance.write_dataset(row, uri, mode="append")

    tag(uri, [DigestLabel()], rows=AGAIN, settings=TagSettings(commit_only=True))
    late = labels(tmp_path)[300]
    report = tag(uri, [DigestLabel()])

    assert late is None
    assert report.computed == 1


def in_slices(**settings: bool) -> list[TagSettings]:
    return [TagSettings(slice=(k, 2), chunk_rows=4, **settings) for k in (1, 2)]


RECOMPUTES = {
    "of all rows": [(AGAIN, TagSettings())],
    "of the rows that a filter takes": [(Rows(where="number < 8", recompute=True), TagSettings())],
    "by slices": [(AGAIN, part) for part in in_slices()],
    "by slices that are committed together": [
        *((AGAIN, part) for part in in_slices(stage_only=True)),
        (AGAIN, TagSettings(commit_only=True)),
    ],
}


@pytest.mark.parametrize("how", RECOMPUTES)
def test_failures_that_were_staged_before_a_recompute_do_not_come_after_it(tmp_path: Path, how: str) -> None:
    uri = str(tmp_path / "data")
    make(tmp_path / "data", 8, rows_per_fragment=4)
    tagger = FailsAtFirst(str(tmp_path))
    with pytest.raises(TooManyErrors):
        tag(uri, [tagger])
    (tmp_path / "mended").touch()
    again = sum(tag(uri, [tagger], rows=rows, settings=each).computed for rows, each in RECOMPUTES[how])
    lance.dataset(uri).insert(table(range(8, 12)))

    report = tag(uri, [tagger])

    assert (again + report.computed, report.failed) == (12, 0)
    assert lance.dataset(uri).count_rows("MENDED_ERROR is null and BYTES is not null") == 12
    assert staged_files(tmp_path / "data") == []


def test_labels_that_were_staged_beside_a_failure_that_is_outdated_are_not_made_again(tmp_path: Path) -> None:
    uri = str(tmp_path / "data")
    make(tmp_path / "data", 8, rows_per_fragment=8)
    tagger = RaisesOn(nth=3, folder=str(tmp_path), batch_size=1)
    tag(uri, [tagger], rows=Rows(where="number >= 6"))
    assert tag(uri, [tagger], settings=STAGE).computed == 6  # of which the first has failed
    tag(uri, [tagger], rows=Rows(where="number = 0", recompute=True))

    report = tag(uri, [tagger])

    assert (report.computed, report.staged, report.failed) == (0, 6, 0)
    assert lance.dataset(uri).count_rows("RAISES_ERROR is null and BYTES is not null") == 8
    assert staged_files(tmp_path / "data") == []
