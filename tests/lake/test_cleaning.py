"""What is cleaned and, more, what is not."""

from __future__ import annotations

import datetime
import os
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lance
import lance.optimize
import pyarrow as pa
import pytest

from datasets import labels, make, right_label, staged_files
from fakes import DigestLabel
from laketag.errors import DatasetNotFound, JobRefused
from laketag.lake.cleaning import clean
from laketag.lake.dataset import open_dataset
from laketag.lake.evolving import add_column, drop_column
from laketag.lake.history import versions
from laketag.lake.lease import leased
from laketag.lake.location import Location
from laketag.lake.pinning import pinned
from laketag.lake.staged import StagedFiles
from laketag.tagging.checked import read_checked
from laketag.tagging.job import job_of
from laketag.tagging.run import tag

NOW = datetime.timedelta(0)
JOB = job_of(DigestLabel(), [("bytes", "jpg")])
OTHER = "0" * 32


def stage(folder: Path, job: str, days: int = 0) -> None:
    """Leave staged work of a job, as old as that."""
    StagedFiles(Location.of(str(folder)), f"{job}/labels").write("a.7.b.lance", pa.table({"offset": [1]}))
    for file in (folder / "_laketag" / job).rglob("*.lance"):
        os.utime(file, (file.stat().st_atime, file.stat().st_mtime - days * 86400))


def everything(folder: Path) -> dict[str, int]:
    return {str(file): file.stat().st_size for file in folder.rglob("*") if file.is_file()}


def test_it_only_says_what_it_would_delete(tmp_path: Path) -> None:
    make(tmp_path)
    stage(tmp_path, OTHER, days=20)
    add_column(str(tmp_path), "X", "1")
    drop_column(str(tmp_path), "X")
    before = everything(tmp_path)

    said = clean(str(tmp_path), older_than=NOW)
    assert everything(tmp_path) == before
    done = clean(str(tmp_path), older_than=NOW, yes=True)

    assert (said.versions, said.files, said.bytes, said.staged) == (
        done.versions,
        done.files,
        done.bytes,
        done.staged,
    )
    assert not said.deleted
    assert (done.deleted, done.versions, done.staged[0].job) == (True, 2, OTHER)
    assert [each.version for each in versions(str(tmp_path)).versions] == [3]
    assert sum(before.values()) - sum(everything(tmp_path).values()) >= done.bytes > 0
    assert lance.dataset(str(tmp_path)).count_rows() == 300


def test_young_versions_young_orphans_and_young_work_stay(tmp_path: Path) -> None:
    make(tmp_path)
    add_column(str(tmp_path), "X", "1")
    stage(tmp_path, OTHER, days=1)
    (tmp_path / "data" / "orphan.lance").write_bytes(b"another program's")

    report = clean(str(tmp_path), yes=True)
    clean(str(tmp_path), older_than=datetime.timedelta(days=3), yes=True)

    assert (report.versions, report.files, report.staged) == (0, 0, ())
    assert [each.name for each in report.kept] == [OTHER]
    assert "the same command goes on" in report.kept[0].reason
    assert len(staged_files(tmp_path)) == 1
    assert (tmp_path / "data" / "orphan.lance").exists()


def test_an_old_orphan_goes(tmp_path: Path) -> None:
    make(tmp_path)
    orphan = tmp_path / "data" / "orphan.lance"
    orphan.write_bytes(b"left by a killed writer")
    os.utime(orphan, (0, 0))

    report = clean(str(tmp_path), yes=True)

    assert (report.files, orphan.exists()) == (1, False)


def test_named_versions_stay(tmp_path: Path) -> None:
    make(tmp_path)
    versions(str(tmp_path), tag="release")
    add_column(str(tmp_path), "X", "1")
    drop_column(str(tmp_path), "X")

    report = clean(str(tmp_path), older_than=NOW, yes=True)

    assert [(each.name, each.reason) for each in report.kept] == [("version 1", "it is named 'release'")]
    assert [each.version for each in versions(str(tmp_path)).versions] == [1, 3]
    assert open_dataset(Location.of(str(tmp_path)), 1).to_table().num_rows == 300


def test_a_running_job_loses_nothing(tmp_path: Path) -> None:
    make(tmp_path)
    location = Location.of(str(tmp_path))
    stage(tmp_path, JOB.digest, days=20)
    with leased(location, JOB.digest, JOB.name), pinned(location, 1, JOB.digest, "all"):
        add_column(str(tmp_path), "X", "1")
        drop_column(str(tmp_path), "X")
        staged = staged_files(tmp_path)

        report = clean(str(tmp_path), older_than=NOW, yes=True)

        assert (report.staged, report.pins, report.versions) == ((), (), 1)
        assert staged_files(tmp_path) == staged
        assert open_dataset(location, 1).to_table().num_rows == 300
        with pytest.raises(JobRefused, match="runs on"):
            clean(str(tmp_path), older_than=NOW, yes=True, compact=True)


def test_a_job_that_begins_while_it_is_looked_at_keeps_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    location = Location.of(str(tmp_path))
    add_column(str(tmp_path), "X", "1")
    look = StagedFiles.all_names
    with ExitStack() as run:

        def begins_after(files: StagedFiles) -> list[str]:
            found = look(files)
            monkeypatch.setattr(StagedFiles, "all_names", look)
            run.enter_context(leased(location, JOB.digest, JOB.name))
            run.enter_context(pinned(location, 1, JOB.digest, "all"))
            return found

        monkeypatch.setattr(StagedFiles, "all_names", begins_after)
        report = clean(str(tmp_path), older_than=NOW, yes=True)

        assert (report.pins, report.versions) == ((), 0)
        assert open_dataset(location, 1).to_table().num_rows == 300


def test_what_a_killed_run_left_goes_when_it_is_given_up(tmp_path: Path) -> None:
    make(tmp_path)
    stage(tmp_path, JOB.digest, days=1)
    lance.dataset(str(tmp_path)).tags.create(f"laketag-{JOB.digest[:16]}-all", 1)
    add_column(str(tmp_path), "X", "1")

    young = clean(str(tmp_path), yes=True)
    given_up = clean(str(tmp_path), older_than=NOW, yes=True)

    assert young.pins == ()
    assert given_up.pins == (f"laketag-{JOB.digest[:16]}-all",)
    assert staged_files(tmp_path) == []
    assert not (tmp_path / "_laketag" / JOB.digest).exists()
    assert [each.version for each in versions(str(tmp_path)).versions] == [2]


@pytest.mark.slow
def test_what_a_committed_job_knows_is_no_leftover(tmp_path: Path) -> None:
    make(tmp_path)
    tag(str(tmp_path), [DigestLabel()])

    report = clean(str(tmp_path), older_than=NOW, yes=True)

    assert (report.staged, report.kept) == ((), ())
    assert read_checked(Location.of(str(tmp_path)), JOB).sources


def test_an_import_at_work_loses_nothing(tmp_path: Path) -> None:
    make(tmp_path)
    stage(tmp_path, "import-abc", days=20)

    with leased(Location.of(str(tmp_path)), "importing", "an import"):
        report = clean(str(tmp_path), older_than=NOW, yes=True)
    afterwards = clean(str(tmp_path), yes=True)

    assert report.staged == ()
    assert {each.name for each in report.kept} == {"import-abc", "importing"}
    assert [each.job for each in afterwards.staged] == ["import-abc"]


def test_the_ledger_of_what_was_imported_stays(tmp_path: Path) -> None:
    make(tmp_path)
    StagedFiles(Location.of(str(tmp_path)), "imported").write("a.lance", pa.table({"shard": ["{}"]}))

    report = clean(str(tmp_path), older_than=NOW, yes=True)

    assert (report.staged, report.kept) == ((), ())
    assert len(staged_files(tmp_path)) == 1


@pytest.mark.slow
def test_compaction_frees_deleted_rows_and_keeps_labels(tmp_path: Path) -> None:
    make(tmp_path)
    tag(str(tmp_path), [DigestLabel()])
    lance.dataset(str(tmp_path)).delete("number < 60")
    before = sum(everything(tmp_path).values())

    said = clean(str(tmp_path), older_than=NOW, compact=True)
    done = clean(str(tmp_path), older_than=NOW, yes=True, compact=True)

    assert said.compacted == done.compacted == 1
    assert labels(tmp_path) == {n: right_label(n) for n in range(60, 300)}
    assert sum(everything(tmp_path).values()) < before
    assert clean(str(tmp_path), older_than=NOW, compact=True).compacted == 0
    assert tag(str(tmp_path), [DigestLabel()]).computed == 0


def test_there_is_nothing_to_clean_where_no_dataset_is(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound):
        clean(str(tmp_path))


def test_a_broken_job_that_goes_on_during_a_compaction_keeps_its_work_and_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path).delete("number < 30")
    stage(tmp_path, JOB.digest, days=20)
    location, compaction = Location.of(str(tmp_path)), lance.optimize.Compaction
    lance.dataset(str(tmp_path)).tags.create(f"laketag-{JOB.digest[:16]}-all", 1)
    with ExitStack() as run:

        def goes_on_before(dataset: lance.LanceDataset, options: Any) -> Any:
            run.enter_context(leased(location, JOB.digest, JOB.name))
            run.enter_context(pinned(location, 2, JOB.digest, "all"))
            return compaction.execute(dataset, options)

        meanwhile = SimpleNamespace(plan=compaction.plan, execute=goes_on_before)
        monkeypatch.setattr(lance.optimize, "Compaction", meanwhile)
        report = clean(str(tmp_path), yes=True, compact=True)

        assert report.compacted > 0
        assert (report.staged, report.pins) == ((), ())
        assert StagedFiles(location, f"{JOB.digest}/labels").names() == ["a.7.b.lance"]
