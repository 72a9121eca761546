"""`--commit-every`: results early, and nothing computed twice or lost where the run ends before its end."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
import pytest

from datasets import labels, make, right_label, staged_files
from fakes import CountingTagger, DigestLabel, FailsAtFirst, RaisesOn, predicted
from here import Here, tag
from laketag.errors import Interrupted, TooManyErrors, WrongUsage
from laketag.tagging.settings import Rows, TagSettings

pytestmark = pytest.mark.slow

EVERY_TWO = TagSettings(commit_every=2, chunk_rows=50)


@dataclass(frozen=True)
class StopsAfter:
    """A local engine with whose driver someone loses patience."""

    tasks: int
    workers: int = 1

    def run(self, fn: Any, tasks: Sequence[Any], tell: Any = None) -> Generator[Any, None, None]:
        for number, one in enumerate(Here().run(fn, tasks), 1):
            yield one
            if number == self.tasks:
                raise KeyboardInterrupt


def versions(uri: str) -> list[int]:
    """Count the labels of each version that has any."""
    found = [lance.dataset(uri, version=v["version"]) for v in lance.dataset(uri).versions()]
    return [each.count_rows("SHA256 is not null") for each in found if "SHA256" in each.schema.names]


def test_labels_come_in_several_versions(tmp_path: Path) -> None:
    make(tmp_path, 500)

    report = tag(str(tmp_path), [DigestLabel()], settings=EVERY_TWO)

    assert versions(str(tmp_path)) == [200, 400, 500]
    assert (report.computed, report.version_after) == (500, report.version_before + 3)
    assert labels(tmp_path) == {n: right_label(n) for n in range(500)}
    assert staged_files(tmp_path) == []


def test_where_the_last_commit_came_on_the_way_the_report_names_its_version(tmp_path: Path) -> None:
    make(tmp_path, 400)

    report = tag(str(tmp_path), [DigestLabel()], settings=EVERY_TWO)

    assert report.version_after == lance.dataset(str(tmp_path)).version == report.version_before + 2


def test_a_run_that_ends_early_has_committed_what_it_could(tmp_path: Path) -> None:
    uri, counts = str(tmp_path / "data"), tmp_path / "counts"
    counts.mkdir()
    make(tmp_path / "data", 500)
    tagger = CountingTagger(str(counts))

    with pytest.raises(Interrupted, match="200 of them committed"):
        tag(uri, [tagger], settings=EVERY_TWO, engine=StopsAfter(4))
    committed = lance.dataset(uri).count_rows("SHA is not null")
    tag(uri, [tagger], settings=EVERY_TWO)

    assert committed == 200
    assert len(predicted(counts)) == 500
    assert lance.dataset(uri).count_rows("SHA is not null") == 500


def test_what_an_earlier_run_staged_is_committed_in_the_end(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path, 500)
    tag(uri, [DigestLabel()], settings=TagSettings(stage_only=True, chunk_rows=50, slice=(1, 2)))

    tag(uri, [DigestLabel()], settings=EVERY_TWO)

    assert labels(tmp_path) == {n: right_label(n) for n in range(500)}
    assert staged_files(tmp_path) == []


def test_of_a_task_that_is_partly_staged_only_the_rest_is_computed(tmp_path: Path) -> None:
    uri, counts = str(tmp_path / "data"), tmp_path / "counts"
    counts.mkdir()
    make(tmp_path / "data", 2000, rows_per_fragment=2000)
    tagger = CountingTagger(str(counts))
    tag(uri, [tagger], rows=Rows(where="number < 1240"), settings=TagSettings(stage_only=True, chunk_rows=10))

    report = tag(uri, [tagger], settings=TagSettings(chunk_rows=10))

    assert report.computed == 760
    assert len(predicted(counts)) == 2000


def test_errors_of_all_commits_are_reported_and_each_is_judged_by_itself(tmp_path: Path) -> None:
    make(tmp_path, 500)
    tagger = RaisesOn(marker=b"image 1")  # 1, 10 to 19, 100 to 199

    report = tag(str(tmp_path), [tagger], settings=EVERY_TWO)

    assert report.failed == 111
    assert [(one.reason, one.rows) for one in report.errors] == [("ValueError: a row with image 1", 111)]


def test_a_run_that_only_stages_cannot_commit_on_the_way(tmp_path: Path) -> None:
    make(tmp_path)

    with pytest.raises(WrongUsage, match="--commit-every has no meaning"):
        tag(str(tmp_path), [DigestLabel()], settings=TagSettings(commit_every=1, stage_only=True))


def test_a_failure_that_an_earlier_run_staged_does_not_come_after_its_retry(tmp_path: Path) -> None:
    uri = str(tmp_path / "data")
    make(tmp_path / "data", 500)
    tagger = FailsAtFirst(str(tmp_path))
    with pytest.raises(TooManyErrors):
        tag(uri, [tagger], rows=Rows(where="number < 100"), settings=TagSettings(chunk_rows=50))
    (tmp_path / "mended").touch()

    report = tag(uri, [tagger], rows=Rows(retry_errors=True), settings=EVERY_TWO)

    assert (report.computed, report.failed, report.errors) == (500, 0, ())
    assert lance.dataset(uri).count_rows("MENDED_ERROR is null and BYTES is not null") == 500
    assert report.version_after > report.version_before + 1
    assert staged_files(tmp_path / "data") == []
