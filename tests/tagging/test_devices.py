"""Which worker works on which device, and what a run tells of its speed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

import lance
import pyarrow as pa
import pytest
from tests.fakes import ByteLength, FakeModel, RaisesOn, SlowTagger

import here
import laketag
from datasets import image, make, staged_files
from laketag.engines import place
from laketag.engines.local import Local
from laketag.engines.protocol import Progress
from laketag.errors import DeviceLost, WrongUsage
from laketag.taggers.pipeline import cores
from laketag.taggers.rows import Stats
from laketag.tagging.settings import Rows, TagSettings
from laketag.tagging.speed import speed_of

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class OnDevice:
    """DEVICE: where the model is; PROCESS: which worker it is in. Each batch takes a while."""

    dies_on: bytes = b""
    name: ClassVar[str] = "ondevice"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema([("DEVICE", pa.string()), ("PROCESS", pa.int64())])
    batch_size: ClassVar[int] = 10

    def load(self, device: str) -> Any:
        return OnDeviceModel(device, self.dies_on)


@dataclass
class OnDeviceModel:
    device: str
    dies_on: bytes

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        time.sleep(0.05)
        if self.dies_on in batch:
            os.abort()
        return pa.record_batch(
            [pa.array([self.device] * len(batch)), pa.array([os.getpid()] * len(batch), pa.int64())],
            schema=OnDevice.columns,
        )


_LOADED: WeakSet[FakeModel] = WeakSet()


@dataclass(frozen=True)
class FillsItsDevice(ByteLength):
    """Does not load where another model of its kind is still there."""

    def load(self, device: str) -> FakeModel:
        if _LOADED:
            raise MemoryError("out of memory")
        model = super().load(device)
        _LOADED.add(model)
        return model


@dataclass(frozen=True)
class SlowToPrepare:
    """SIZE: the number of bytes, after a while in the thread that prepares it."""

    name: ClassVar[str] = "prepares"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema([("SIZE", pa.int64())])

    def load(self, device: str) -> Any:
        return self

    def prepare(self, row: Mapping[str, Any]) -> int:
        time.sleep(0.005)
        return len(row["bytes"])

    def predict(self, batch: list[int]) -> pa.RecordBatch:
        return pa.record_batch([pa.array(batch, pa.int64())], schema=self.columns)


def test_a_worker_lets_the_model_of_an_earlier_run_go_before_it_loads_another(tmp_path: Path) -> None:
    make(tmp_path / "d", rows=3)
    here.tag(str(tmp_path / "d"), [FillsItsDevice()])

    again = TagSettings(batch_size=2)
    report = here.tag(str(tmp_path / "d"), [FillsItsDevice()], rows=Rows(recompute=True), settings=again)

    assert (report.computed, report.failed) == (3, 0)


def test_each_worker_has_a_device_of_its_own(tmp_path: Path) -> None:
    make(tmp_path / "d", rows=400)
    settings = TagSettings(device="left, right", chunk_rows=50)

    laketag.tag(str(tmp_path / "d"), [OnDevice()], settings=settings, engine=Local(2))

    rows = lance.dataset(str(tmp_path / "d")).to_table(columns=["DEVICE", "PROCESS"]).to_pylist()
    places = {(row["DEVICE"], row["PROCESS"]) for row in rows}
    assert sorted(device for device, _ in places) == ["left", "right"]
    assert len({process for _, process in places}) == 2


@dataclass(frozen=True)
class DieOnce:
    """Gives the worker's number; the first call of all dies."""

    folder: str

    def __call__(self, task: int) -> int:
        time.sleep(0.1)
        if not task and not Path(self.folder, "died").exists():
            Path(self.folder, "died").touch()
            os.abort()
        return place.number()


def test_a_worker_that_replaces_a_dead_one_works_in_its_place(tmp_path: Path) -> None:
    assert set(Local(2).run(DieOnce(str(tmp_path)), range(12))) == {0, 1}
    assert (tmp_path / "died").exists()


@pytest.mark.slow
def test_a_chunk_that_killed_its_worker_is_computed_on_the_same_device(tmp_path: Path) -> None:
    make(tmp_path / "d", rows=40, rows_per_fragment=40)
    settings = TagSettings(device="left,right", chunk_rows=20)

    laketag.tag(str(tmp_path / "d"), [OnDevice(image(25))], settings=settings, engine=Local(2))

    rows = lance.dataset(str(tmp_path / "d")).to_table(columns=["number", "DEVICE", "ONDEVICE_ERROR"])
    failed = [row["number"] for row in rows.to_pylist() if row["ONDEVICE_ERROR"]]
    assert failed == [25]
    assert set(rows["DEVICE"].to_pylist()) == {"left", "right", None}


@pytest.mark.parametrize("device", ["left,left", "left,", ""])
def test_devices_that_are_no_names_are_refused(device: str, tmp_path: Path) -> None:
    make(tmp_path / "d", rows=1)

    with pytest.raises(WrongUsage, match="give different names"):
        laketag.tag(str(tmp_path / "d"), [OnDevice()], settings=TagSettings(device=device), engine=Local(2))


def test_more_devices_than_workers_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "d", rows=1)

    with pytest.raises(WrongUsage, match="2 devices need as many workers"):
        laketag.tag(str(tmp_path / "d"), [OnDevice()], settings=TagSettings(device="left,right"))


def test_a_run_says_which_side_was_slower(tmp_path: Path) -> None:
    make(tmp_path / "d", rows=200)

    slow_model = laketag.tag(str(tmp_path / "d"), [SlowTagger(0.05)]).speed
    slow_threads = laketag.tag(str(tmp_path / "d"), [SlowToPrepare()]).speed

    assert slow_model is not None
    assert slow_model.bound_by == "model"
    assert slow_model.model > slow_model.waiting
    assert slow_model.device is None
    assert slow_threads is not None
    assert slow_threads.bound_by == "decode"
    assert slow_threads.waiting > slow_threads.model
    assert slow_threads.decoding > slow_model.decoding


def test_a_reader_that_is_slower_than_decoding_and_a_busy_device_are_told() -> None:
    reading = Stats(
        predicted=1, seconds=10, wait_seconds=9, predict_seconds=1, decode_seconds=2, thread_seconds=20
    )
    device = Stats(predicted=1, seconds=10, predict_seconds=9, busy_seconds=9.5, thread_seconds=20)

    assert speed_of(Stats()) is None
    assert speed_of(reading).bound_by == "read"  # type: ignore[union-attr]
    assert speed_of(device).device == 0.95  # type: ignore[union-attr]
    assert "device busy 95%" in speed_of(device).line  # type: ignore[union-attr]
    assert "more of them" in speed_of(device).advice  # type: ignore[union-attr]


def test_a_device_that_waits_for_its_program_is_not_said_to_be_busy() -> None:
    waiting = Stats(predicted=1, seconds=10, predict_seconds=9, busy_seconds=2, thread_seconds=20)

    assert "larger --batch-size" in speed_of(waiting).advice  # type: ignore[union-attr]


def test_progress_tells_how_it_goes_and_why_rows_fail(tmp_path: Path) -> None:
    make(tmp_path / "d", rows=160, rows_per_fragment=80)
    told: list[Progress] = []
    settings = TagSettings(chunk_rows=10, batch_size=10, progress=told.append)

    laketag.tag(str(tmp_path / "d"), [RaisesOn(b"image 7 "), OnDevice()], settings=settings)

    details = [one.detail for one in told if one.detail]
    assert details[-1].startswith("model-bound (model ")
    assert details[-1].endswith("; failed: 1 ValueError: a row with image 7")
    committing = [(one.done, one.total, one.unit) for one in told if one.note == "committing"]
    assert committing == [(1, 2, "fragments"), (2, 2, "fragments")]


@dataclass(frozen=True)
class Sharing:
    """CORES: what the model was told that it has; WAITING: how its threads wait."""

    name: ClassVar[str] = "sharing"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema([("CORES", pa.int64()), ("WAITING", pa.string())])

    def load(self, device: str) -> Any:
        return SharingModel()


@dataclass
class SharingModel:
    cores: int = 0

    def use_cores(self, count: int) -> None:
        self.cores = count

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        waiting = os.environ["OMP_WAIT_POLICY"]
        return pa.record_batch(
            [pa.array([self.cores] * len(batch), pa.int64()), pa.array([waiting] * len(batch))],
            schema=Sharing.columns,
        )


def test_workers_share_the_machines_cores_and_wait_asleep(tmp_path: Path) -> None:
    make(tmp_path / "d", rows=4)

    laketag.tag(str(tmp_path / "d"), [Sharing()], engine=Local(2))

    (row, *_) = lance.dataset(str(tmp_path / "d")).to_table(columns=["CORES", "WAITING"]).to_pylist()
    assert row == {"CORES": max(1, cores() // 2), "WAITING": "PASSIVE"}


@dataclass(frozen=True)
class Loses:
    """SIZE: the number of bytes. On one row its device is lost, for its process or, with a file, for good."""

    marker: bytes
    broken: str = ""
    name: ClassVar[str] = "loses"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema([("SIZE", pa.int64())])
    batch_size: ClassVar[int] = 2

    def load(self, device: str) -> Any:
        return LosesModel(self.marker, self.broken)


@dataclass
class LosesModel:
    marker: bytes
    broken: str
    is_lost: bool = False

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        self.is_lost |= self.marker in batch or os.path.exists(self.broken)
        if self.is_lost:
            if self.broken:
                Path(self.broken).touch()
            raise RuntimeError("CUDA error: device-side assert triggered")
        return pa.record_batch([pa.array(map(len, batch), pa.int64())], schema=Loses.columns)


def test_a_row_on_which_the_device_is_lost_fails_alone_and_no_row_after_it(tmp_path: Path) -> None:
    make(tmp_path / "d", rows=24, rows_per_fragment=24)

    laketag.tag(str(tmp_path / "d"), [Loses(image(9))], settings=TagSettings(chunk_rows=4))

    rows = lance.dataset(str(tmp_path / "d")).to_table(columns=["number", "SIZE", "LOSES_ERROR"]).to_pylist()
    assert [row["number"] for row in rows if row["SIZE"] is None] == [9]
    assert rows[9]["LOSES_ERROR"].startswith(
        "tagger loses lost its device (RuntimeError: CUDA error: device-"
    )


def test_a_device_that_is_lost_on_every_row_ends_the_run(tmp_path: Path) -> None:
    make(tmp_path / "d", rows=24, rows_per_fragment=24)
    before = staged_files(tmp_path / "d")

    with pytest.raises(DeviceLost, match="tagger loses lost its device"):
        here.tag(str(tmp_path / "d"), [Loses(image(0))])
    assert staged_files(tmp_path / "d") == before

    # It has worked, and breaks for good: neither the row nor a new process is to blame.
    with pytest.raises(DeviceLost, match="tagger loses lost its device"):
        laketag.tag(
            str(tmp_path / "d"),
            [Loses(image(9), str(tmp_path / "broken"))],
            settings=TagSettings(chunk_rows=2),
        )
    assert "SIZE" not in lance.dataset(str(tmp_path / "d")).schema.names
