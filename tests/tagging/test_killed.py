"""Killed at a random moment: readers see the old version, and the same command does only what is missing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import lance
import pyarrow as pa
import pytest

import here
from datasets import image, make, staged_files
from fakes import CountingTagger, ToldWithItsWorker, predicted
from laketag.engines.local import Local
from laketag.errors import WorkerLost
from laketag.lake.location import Location
from laketag.lake.reading import ranges_of
from laketag.tagging import careful
from laketag.tagging.job import job_of
from laketag.tagging.plan import Chunk
from laketag.tagging.run import tag
from laketag.tagging.settings import TagSettings
from laketag.tagging.staging import Staging

pytestmark = pytest.mark.slow

ROWS, CHUNK, WORKERS = 2000, 100, 2
PROGRAM = f"""
import sys
sys.path[:0] = {sys.path!r}
from fakes import CountingTagger
from laketag.engines.local import Local
from laketag.tagging.run import tag
from laketag.tagging.settings import TagSettings
settings = TagSettings(chunk_rows={CHUNK})
tag(sys.argv[1], [CountingTagger(sys.argv[2], 0.05)], settings=settings, engine=Local({WORKERS}))
"""


def test_sigkill_at_a_random_moment_loses_and_repeats_next_to_nothing(tmp_path: Path, round_: int) -> None:
    folder, counted = _prepared(tmp_path)
    process = _start(folder, counted)
    time.sleep(random.uniform(0.3, 2.5))
    process.kill()
    process.communicate()
    _wait_for_workers_to_end(counted)

    assert lance.dataset(str(folder)).schema.names == ["jpg", "number"]
    _finish(folder, counted)

    assert lance.dataset(str(folder)).count_rows("SHA is null") == 0
    assert staged_files(folder) == []
    assert ROWS <= len(predicted(counted)) <= ROWS + 2 * CHUNK * WORKERS


def test_sigterm_stages_the_chunk_at_hand(tmp_path: Path) -> None:
    folder, counted = _prepared(tmp_path)
    process = _start(
        folder, counted, handler="import signal; signal.signal(15, signal.default_int_handler)\n"
    )
    while not predicted(counted):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()

    assert "Interrupted" in said
    assert lance.dataset(str(folder)).schema.names == ["jpg", "number"]
    _finish(folder, counted)

    assert len(predicted(counted)) == ROWS
    assert lance.dataset(str(folder)).count_rows("SHA is null") == 0


def test_a_worker_killed_in_mid_chunk_is_replaced(tmp_path: Path) -> None:
    folder, counted = _prepared(tmp_path)
    process = _start(folder, counted)
    while not (workers := list(counted.iterdir())):
        time.sleep(0.02)
    os.kill(int(workers[0].name.split("-")[1]), signal.SIGKILL)
    process.communicate()

    assert process.returncode == 0
    assert lance.dataset(str(folder)).count_rows("SHA is null") == 0
    assert len(predicted(counted)) <= ROWS + 2 * CHUNK


def test_of_a_chunk_that_takes_long_a_kill_costs_seconds_not_the_chunk(tmp_path: Path) -> None:
    folder, counted = tmp_path / "data", tmp_path / "counted"
    counted.mkdir()
    make(folder, ROWS, rows_per_fragment=ROWS)
    slow = PROGRAM.replace(f"chunk_rows={CHUNK}", f"chunk_rows={ROWS}").replace("0.05", "0.5")
    process = subprocess.Popen([sys.executable, "-c", slow, str(folder), str(counted)])
    while not any("labels" in path.parts for path in staged_files(folder)):
        time.sleep(0.02)
    process.kill()
    process.communicate()
    _wait_for_workers_to_end(counted)
    before = len(predicted(counted))

    settings = TagSettings(chunk_rows=ROWS)
    report = tag(str(folder), [CountingTagger(str(counted))], settings=settings, engine=Local(1))

    assert 0 < report.skipped <= before < ROWS
    assert report.skipped >= before / 2
    assert len(predicted(counted)) == before + ROWS - report.skipped
    assert lance.dataset(str(folder)).count_rows("SHA is null") == 0


def _prepared(tmp_path: Path) -> tuple[Path, Path]:
    folder, counted = tmp_path / "data", tmp_path / "counted"
    counted.mkdir()
    make(folder, ROWS, rows_per_fragment=700)
    return folder, counted


def _start(folder: Path, counted: Path, handler: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", handler + PROGRAM, str(folder), str(counted)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def _finish(folder: Path, counted: Path) -> None:
    settings = TagSettings(chunk_rows=CHUNK)
    tag(str(folder), [CountingTagger(str(counted))], settings=settings, engine=Local(WORKERS))


def _wait_for_workers_to_end(counted: Path) -> None:
    """Workers end within a second of their driver; what they count until then counts."""
    deadline = time.monotonic() + 20
    pids = {int(path.name.split("-")[1]) for path in counted.iterdir()}
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)


def test_sigterm_to_a_worker_alone_costs_nothing_and_the_run_goes_on(tmp_path: Path) -> None:
    folder, counted = _prepared(tmp_path)
    process = _start(folder, counted)
    while not (workers := list(counted.iterdir())):
        time.sleep(0.02)
    os.kill(int(workers[0].name.split("-")[1]), signal.SIGTERM)
    _, said = process.communicate()

    assert process.returncode == 0, said
    assert lance.dataset(str(folder)).count_rows("SHA is null") == 0
    assert len(predicted(counted)) == ROWS


def test_a_row_that_was_tried_apart_when_all_were_told_to_stop_is_not_to_blame(tmp_path: Path) -> None:
    make(tmp_path / "data", 1)

    report = tag(str(tmp_path / "data"), [ToldWithItsWorker(str(tmp_path))], engine=Local(1))

    assert report.errors == ()
    assert lance.dataset(str(tmp_path / "data")).count_rows("BYTES is null") == 0


@dataclass(frozen=True)
class Dangerous:
    """BYTES; of its first calls on a row one kills its process, and one its process and the worker above."""

    row: bytes
    folder: str
    name: ClassVar[str] = "dangerous"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema([("BYTES", pa.int64())])

    def load(self, device: str) -> Any:
        return self

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        if self.row in batch:
            called = Path(self.folder, "called")
            with called.open("a") as file:
                file.write(f"{os.getppid()}\n")
            calls = len(called.read_text().split())
            if calls == 2:
                os.kill(os.getppid(), signal.SIGTERM)
                time.sleep(0.3)
            if calls <= 2:
                os.abort()
        return pa.record_batch([pa.array(map(len, batch), pa.int64())], schema=self.columns)


def test_a_chunk_that_kills_is_still_computed_apart_after_its_worker_was_told_to_stop(tmp_path: Path) -> None:
    make(tmp_path / "d", rows=8)

    tag(str(tmp_path / "d"), [Dangerous(image(3), str(tmp_path))])

    parents = (tmp_path / "called").read_text().split()
    assert [parent == str(os.getpid()) for parent in parents] == [True, False, False]
    assert lance.dataset(str(tmp_path / "d")).count_rows("BYTES is null") == 0


@dataclass(frozen=True)
class NeverAlive:
    """BYTES, if it did not end its process on every row, as a library does that the processor cannot run."""

    name: ClassVar[str] = "neveralive"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema([("BYTES", pa.int64())])

    def load(self, device: str) -> Any:
        return self

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        os.abort()


def test_a_model_that_dies_on_every_row_ends_the_run_before_it_has_tried_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, 8)
    begun(str(tmp_path), NeverAlive())
    monkeypatch.setattr(careful, "_IN_VAIN", 2)

    with pytest.raises(WorkerLost, match=r"died \(SIGABRT\), on each of 3 rows that were tried alone"):
        here.tag(str(tmp_path), [NeverAlive()])


@dataclass(frozen=True)
class LoadsAlone:
    """BYTES; one row kills its process. Who loads it, and that one's parent, are a line of `loaded`."""

    row: bytes
    folder: str
    name: ClassVar[str] = "loadsalone"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema([("BYTES", pa.int64())])

    def load(self, device: str) -> Any:
        with Path(self.folder, "loaded").open("a") as file:
            file.write(f"{os.getpid()} {os.getppid()}\n")
        return self

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        if self.row in batch:
            os.abort()
        return pa.record_batch([pa.array(map(len, batch), pa.int64())], schema=self.columns)


def test_beside_a_model_that_computes_a_chunk_apart_its_parent_has_none(tmp_path: Path) -> None:
    make(tmp_path / "d", rows=4)

    tag(str(tmp_path / "d"), [LoadsAlone(image(1), str(tmp_path))])

    loads = [line.split() for line in (tmp_path / "loaded").read_text().splitlines()]
    assert all(parent not in [process for process, _ in loads[:n]] for n, (_, parent) in enumerate(loads))
    assert lance.dataset(str(tmp_path / "d")).count_rows("BYTES is null") == 1


@dataclass(frozen=True)
class Breaks:
    """BYTES; where there is a file `broken` in the folder, whoever loads it dies."""

    folder: str
    name: ClassVar[str] = "breaks"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema([("BYTES", pa.int64())])

    def load(self, device: str) -> Any:
        if Path(self.folder, "broken").exists():
            os.abort()
        return self

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        return pa.record_batch([pa.array(map(len, batch), pa.int64())], schema=self.columns)


def test_a_process_that_dies_over_a_row_whose_label_is_right_costs_it_nothing(tmp_path: Path) -> None:
    uri, tagger = str(tmp_path / "d"), Breaks(str(tmp_path))
    make(tmp_path / "d", 4)
    here.tag(uri, [tagger])
    lance.dataset(uri).update({"number": "number"}, where="number = 2")
    (tmp_path / "broken").touch()
    begun(uri, tagger)

    report = here.tag(uri, [tagger])

    assert (report.computed, report.failed, report.version_after) == (0, 0, report.version_before)


def begun(uri: str, tagger: Any) -> None:
    """Leave what a process leaves that dies over the rows of a small dataset."""
    job = job_of(tagger, [("bytes", "jpg")])
    chunk = Chunk.of(ranges_of(lance.dataset(uri), job.reads))
    Staging(Location.of(uri), job.digest).begin(chunk)
