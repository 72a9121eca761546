"""Array jobs and leases: n machines share a job, and two runs of the same part never do."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import lance
import pytest

from datasets import labels, make, right_label, staged_files
from fakes import CountingTagger, DigestLabel, FailsAtFirst, predicted
from here import tag
from laketag.errors import JobRefused, WrongUsage
from laketag.lake.lease import Lease, leased
from laketag.lake.location import Location
from laketag.lake.showing import show
from laketag.lake.staged import StagedFiles
from laketag.tagging.checked import read_checked, write_checked
from laketag.tagging.job import job_of
from laketag.tagging.settings import Rows, TagSettings
from laketag.tagging.staging import Staging


def test_slices_stage_and_one_run_commits(tmp_path: Path) -> None:
    uri, counted = str(tmp_path / "data"), tmp_path / "counted"
    counted.mkdir()
    make(tmp_path / "data")
    tagger = CountingTagger(str(counted))

    for k in (1, 2, 3):
        tag(uri, [tagger], settings=TagSettings(slice=(k, 3), stage_only=True, chunk_rows=20))
    assert lance.dataset(uri).version == 1
    report = tag(uri, [tagger], settings=TagSettings(commit_only=True))

    assert (report.computed, report.version_after) == (0, 2)
    assert lance.dataset(uri).count_rows("SHA is null") == 0
    assert len(predicted(counted)) == 300
    assert staged_files(tmp_path / "data") == []
    assert tag(uri, [tagger]).bytes_read == 0


@pytest.mark.slow
def test_what_an_earlier_laketag_staged_in_one_folder_is_counted_committed_and_taken_away(
    tmp_path: Path,
) -> None:
    make(tmp_path)
    tag(str(tmp_path), [DigestLabel()], settings=TagSettings(stage_only=True, chunk_rows=20))
    for file in staged_files(tmp_path):
        file.rename(file.parents[1] / file.name)
    assert {file.parent.name for file in staged_files(tmp_path)} == {"labels"}

    before = show(str(tmp_path)).jobs
    report = tag(str(tmp_path), [DigestLabel()])

    assert [job.rows for job in before] == [300]
    assert (report.computed, report.version_after) == (0, 2)
    assert labels(tmp_path) == {n: right_label(n) for n in range(300)}
    assert staged_files(tmp_path) == []


@pytest.mark.slow
def test_slices_that_commit_themselves_leave_each_other_alone(tmp_path: Path) -> None:
    make(tmp_path)

    done = [
        tag(str(tmp_path), [DigestLabel()], settings=TagSettings(slice=(k, 2), chunk_rows=20)).computed
        for k in (1, 2)
    ]

    assert sum(done) == 300
    assert all(done)
    assert labels(tmp_path) == {n: right_label(n) for n in range(300)}


@pytest.mark.parametrize("wrong", [(0, 3), (4, 3), (1, 0)])
def test_a_slice_that_is_none_is_refused(tmp_path: Path, wrong: tuple[int, int]) -> None:
    make(tmp_path)

    with pytest.raises(WrongUsage, match="--slice is"):
        tag(str(tmp_path), [DigestLabel()], settings=TagSettings(slice=wrong))


def test_committing_what_is_not_staged_is_refused(tmp_path: Path) -> None:
    make(tmp_path)

    with pytest.raises(JobRefused, match="nothing is staged for digestlabel"):
        tag(str(tmp_path), [DigestLabel()], settings=TagSettings(commit_only=True))


def test_what_was_tried_again_and_staged_is_committed_though_no_row_is_missing(tmp_path: Path) -> None:
    uri, tagger = str(tmp_path / "d"), FailsAtFirst(str(tmp_path))
    make(tmp_path / "d", 8)
    tag(uri, [tagger], settings=TagSettings(max_error_rate=1.0))
    (tmp_path / "mended").touch()
    tag(uri, [tagger], rows=Rows(retry_errors=True), settings=TagSettings(stage_only=True))

    report = tag(uri, [tagger], settings=TagSettings(commit_only=True))
    again = tag(uri, [tagger], settings=TagSettings(commit_only=True))

    assert (report.staged, report.failed, again.version_after) == (8, 0, report.version_after)
    assert lance.dataset(uri).count_rows("MENDED_ERROR is null and BYTES is not null") == 8


def test_a_second_run_of_the_same_job_is_refused_and_told_who_works(tmp_path: Path) -> None:
    make(tmp_path)
    job = job_of(DigestLabel(), [("bytes", "jpg")])

    with leased(Location.of(str(tmp_path)), job.digest, "a test"):
        with pytest.raises(JobRefused, match=socket.gethostname()):
            tag(str(tmp_path), [DigestLabel()])
        with pytest.raises(JobRefused, match="since"):
            tag(str(tmp_path), [DigestLabel()], settings=TagSettings(slice=(1, 2), chunk_rows=20))
    assert tag(str(tmp_path), [DigestLabel()]).computed == 300


@pytest.mark.slow
def test_slices_do_not_exclude_each_other(tmp_path: Path) -> None:
    make(tmp_path)
    job = job_of(DigestLabel(), [("bytes", "jpg")])

    with leased(Location.of(str(tmp_path)), job.digest, "a test", "1of2"):
        tag(str(tmp_path), [DigestLabel()], settings=TagSettings(slice=(2, 2), chunk_rows=20))

    assert lance.dataset(str(tmp_path)).count_rows("SHA256 is not null") > 0


def test_the_lease_of_a_dead_process_or_one_that_ran_out_holds_no_one_up(tmp_path: Path) -> None:
    make(tmp_path)
    job = job_of(DigestLabel(), [("bytes", "jpg")])
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    now = int(time.time() * 1000)
    folder = StagedFiles(Location.of(str(tmp_path)), f"{job.digest}/lease")
    dead = Lease(now - 5000, "a" * 12, now + 60_000, "all", process.pid, socket.gethostname())
    late = Lease(now - 5000, "b" * 12, now - 1, "all", 1, "another.host")
    for lease in (dead, late):
        folder.mark(lease.file)

    assert tag(str(tmp_path), [DigestLabel()]).computed == 300
    assert folder.names() == []


def test_of_many_that_ask_at_the_same_moment_one_holds_at_most(tmp_path: Path) -> None:
    location, begin = Location.of(str(tmp_path)), threading.Barrier(6)
    at_once: list[int] = []
    holding: set[int] = set()

    def ask(number: int) -> None:
        begin.wait()
        with suppress(JobRefused), leased(location, "work", "a test"):
            holding.add(number)
            at_once.append(len(holding))
            time.sleep(0.02)
            holding.discard(number)

    for _ in range(10):
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert max(at_once, default=1) == 1


def test_the_lease_of_a_process_in_a_container_of_the_same_name_holds(tmp_path: Path) -> None:
    make(tmp_path)
    job = job_of(DigestLabel(), [("bytes", "jpg")])
    now = int(time.time() * 1000)
    unseen = Lease(now, "a" * 12, now + 60_000, "all", 1 << 22, socket.gethostname(), "elsewhere")
    StagedFiles(Location.of(str(tmp_path)), f"{job.digest}/lease").mark(unseen.file)

    with pytest.raises(JobRefused, match=f"process {1 << 22}"):
        tag(str(tmp_path), [DigestLabel()])


@pytest.mark.slow
def test_a_slice_may_tidy_up_while_another_one_looks_at_what_is_staged(tmp_path: Path) -> None:
    make(tmp_path)
    tag(str(tmp_path), [DigestLabel()], settings=TagSettings(stage_only=True, chunk_rows=10))
    job = job_of(DigestLabel(), [("bytes", "jpg")])
    staging = Staging(Location.of(str(tmp_path)), job.digest)
    names = staging.files.names()
    tidying = threading.Thread(target=lambda: staging.files.delete(reversed(names)))

    tidying.start()
    while tidying.is_alive():
        found = {part.name for part in staging.parts()}
        assert found <= set(names)
    tidying.join()

    assert staging.parts() == []


def test_slices_of_another_number_are_refused_since_they_share_chunks(tmp_path: Path) -> None:
    make(tmp_path)
    job = job_of(DigestLabel(), [("bytes", "jpg")])

    with (
        leased(Location.of(str(tmp_path)), job.digest, "a test", "1of2"),
        pytest.raises(JobRefused, match="is at work"),
    ):
        tag(str(tmp_path), [DigestLabel()], settings=TagSettings(slice=(2, 3), chunk_rows=20))


def test_what_is_known_may_be_written_anew_while_a_slice_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    tag(str(tmp_path), [DigestLabel()])
    location, job = Location.of(str(tmp_path)), job_of(DigestLabel(), [("bytes", "jpg")])
    known = read_checked(location, job)
    look = StagedFiles.names

    def written_after(files: StagedFiles) -> list[str]:
        found = look(files)
        monkeypatch.setattr(StagedFiles, "names", look)
        write_checked(location, job, replace(known, version=known.version + 1))
        return found

    monkeypatch.setattr(StagedFiles, "names", written_after)

    assert read_checked(location, job) == replace(known, version=known.version + 1)


@pytest.mark.slow
def test_no_slice_runs_the_model_again_on_rows_that_a_compaction_moved(tmp_path: Path) -> None:
    uri, counted = str(tmp_path / "data"), tmp_path / "counted"
    counted.mkdir()
    make(tmp_path / "data")
    tagger = CountingTagger(str(counted))
    tag(uri, [tagger], settings=TagSettings(slice=(1, 2), stage_only=True, chunk_rows=20))
    lance.dataset(uri).optimize.compact_files()

    for k in (1, 2):
        tag(uri, [tagger], settings=TagSettings(slice=(k, 2), stage_only=True, chunk_rows=20))
    report = tag(uri, [tagger], settings=TagSettings(commit_only=True))

    assert (len(predicted(counted)), report.staged) == (300, 300)
    assert lance.dataset(uri).count_rows("SHA is null") == 0
    assert staged_files(tmp_path / "data") == []
