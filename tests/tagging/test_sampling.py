"""A dry run tells what a run would take."""

from __future__ import annotations

from pathlib import Path

import lance
import pytest
from tests.fakes import RaisesOn, SlowTagger

import laketag
from datasets import image, make, staged_files
from here import tag
from laketag.engines.local import Local
from laketag.tagging.settings import Rows, TagSettings

pytestmark = pytest.mark.slow

DRY = TagSettings(dry_run=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_time_is_reckoned_from_what_the_models_of_all_workers_take(workers: int, tmp_path: Path) -> None:
    make(tmp_path / "d", rows=1600, rows_per_fragment=400)
    tagger, engine = SlowTagger(0.1, batch_size=16), Local(workers)
    dry = TagSettings(dry_run=True, chunk_rows=100, price_per_hour=7200)

    told = laketag.tag(str(tmp_path / "d"), [tagger], settings=dry, engine=engine).estimate

    assert told is not None
    assert (told.rows, told.workers) == (1600, workers)
    # 160 rows/s and worker are what the sleeping model allows; a busy machine takes off some.
    assert 80 * workers < told.rows_per_second <= 160 * workers
    assert told.seconds == pytest.approx(1600 / told.rows_per_second, abs=1)
    assert told.cost == pytest.approx(2 * told.seconds)
    assert told.bytes == pytest.approx(sum(len(image(number)) for number in range(1600)), rel=0.2)
    assert told.speed is not None
    assert told.speed.bound_by == "model"


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    make(tmp_path)

    report = tag(str(tmp_path), [SlowTagger(0)], settings=DRY)

    assert (report.computed, report.version_after) == (0, report.version_before)
    assert lance.dataset(str(tmp_path)).schema.names == ["jpg", "number"]
    assert staged_files(tmp_path) == []


def test_only_rows_without_labels_are_reckoned_with(tmp_path: Path) -> None:
    make(tmp_path)
    tag(str(tmp_path), [SlowTagger(0)], rows=Rows(where="number < 120"))

    some = tag(str(tmp_path), [SlowTagger(0)], settings=DRY).estimate
    few = tag(str(tmp_path), [SlowTagger(0)], rows=Rows(limit=7), settings=DRY).estimate

    assert some is not None
    assert few is not None
    assert (some.rows, few.rows, few.sampled) == (180, 7, 7)


def test_nothing_to_do_is_reckoned_as_nothing(tmp_path: Path) -> None:
    make(tmp_path)
    tag(str(tmp_path), [SlowTagger(0)])

    assert tag(str(tmp_path), [SlowTagger(0)], settings=DRY).estimate is None


def test_rows_of_the_sample_that_fail_are_counted(tmp_path: Path) -> None:
    make(tmp_path, rows=40)

    told = tag(str(tmp_path), [RaisesOn(b"image 3", batch_size=4)], settings=DRY).estimate

    assert told is not None
    assert told.sampled == 36  # all but the batch to warm up with
    assert told.sampled_failed == 10  # 30 to 39


def test_the_sample_is_of_rows_that_lack_labels_wherever_they_lie(tmp_path: Path) -> None:
    make(tmp_path, rows=400)
    settings = TagSettings(dry_run=True, chunk_rows=10)

    told = tag(str(tmp_path), [SlowTagger(0)], rows=Rows(where="number >= 390"), settings=settings).estimate

    assert told is not None
    assert (told.rows, told.sampled) == (10, 10)
    assert told.bytes == sum(len(image(number)) for number in range(390, 400))


def test_rows_that_only_seem_to_have_changed_are_nothing_to_reckon_with(tmp_path: Path) -> None:
    make(tmp_path)
    tag(str(tmp_path), [SlowTagger(0)])
    lance.dataset(str(tmp_path)).update({"number": "number + 1000"})

    assert tag(str(tmp_path), [SlowTagger(0)], settings=DRY).estimate is None


def test_a_slice_is_reckoned_with_its_own_rows(tmp_path: Path) -> None:
    make(tmp_path, rows=400)

    def rows(part: int) -> int:
        settings = TagSettings(dry_run=True, chunk_rows=10, slice=(part, 2))
        told = tag(str(tmp_path), [SlowTagger(0)], settings=settings).estimate
        assert told is not None
        return told.rows

    assert rows(1) + rows(2) == 400
    assert 100 < rows(1) < 300
