"""What happens around `predict`: batches begun ahead, memory that does not suffice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from laketag.errors import DeviceLost
from laketag.taggers.pipeline import Pipeline
from laketag.taggers.rows import Row

_COLUMNS = pa.schema([("BYTES", pa.int64())])


def out_of_gpu_memory() -> Exception:
    """Make torch's own; importing it takes seconds."""
    import torch

    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def labels(batch: list[bytes]) -> pa.RecordBatch:
    return pa.record_batch([pa.array([len(value) for value in batch], pa.int64())], schema=_COLUMNS)


@dataclass(frozen=True)
class Given:
    """A tagger whose model is given."""

    model: Any = field(compare=False)
    batch_size: int = 4
    name: ClassVar[str] = "given"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = _COLUMNS

    def identity(self) -> dict[str, str]:
        return {}

    def load(self, device: str) -> Any:
        return self.model


@dataclass
class Device:
    """A model on a device that works by itself; it notes what it is asked, in order."""

    fits: int = 100
    fails_on: bytes | None = None
    asked: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        return self.begin(batch)()

    def begin(self, batch: list[bytes]) -> Callable[[], pa.RecordBatch]:
        name = batch[0].decode()
        self.asked.append(f"begin {name}")
        self.sizes.append(len(batch))
        if len(batch) > self.fits:
            raise out_of_gpu_memory()

        def wait() -> pa.RecordBatch:
            self.asked.append(f"wait {name}")
            if self.fails_on in batch:
                raise ValueError("a bad row")
            return labels(batch)

        return wait


def rows(count: int) -> list[Row]:
    return [Row(number, {"bytes": b"%d" % number}) for number in range(count)]


def run(model: Any, count: int) -> list[dict[str, Any]]:
    ((_, (found,)),) = Pipeline([Given(model)]).run([("chunk", rows(count))])
    assert found.positions.tolist() == list(range(count))
    result: list[dict[str, Any]] = found.batch.to_pylist()
    return result


def test_the_next_batch_is_begun_before_this_one_is_waited_for() -> None:
    model = Device()

    found = run(model, 10)

    assert model.asked == ["begin 0", "begin 4", "wait 0", "begin 8", "wait 4", "wait 8"]
    assert [row["BYTES"] for row in found] == [1] * 10


def test_what_fails_while_it_is_waited_for_costs_only_its_row() -> None:
    found = run(Device(fails_on=b"5"), 10)

    assert [row["GIVEN_ERROR"] for row in found] == [None] * 5 + ["ValueError: a bad row"] + [None] * 4


def test_a_batch_that_does_not_fit_is_halved_and_the_size_that_fits_is_remembered() -> None:
    model = Device(fits=2)

    found = run(model, 16)

    assert {row["BYTES"] for row in found} == {1, 2}
    assert all(row["GIVEN_ERROR"] is None for row in found)
    # The first was begun in vain, and the second before that was known.
    assert model.sizes[:2] == [4, 4]
    assert set(model.sizes[2:]) == {2}


def test_a_run_that_is_stopped_keeps_what_is_at_work() -> None:
    model = Device()
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(model.sizes) >= 2

    ((_, (found,)),) = Pipeline([Given(model)], stop=stop).run([("chunk", rows(100))])

    assert not found.is_whole
    assert found.positions.tolist() == list(range(8))
    assert model.asked[-2:] == ["wait 0", "wait 4"]


@pytest.mark.parametrize(
    "error",
    [
        out_of_gpu_memory,
        MemoryError,
        lambda: RuntimeError(
            "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        lambda: RuntimeError("Failed to allocate memory for requested buffer of size 1"),
        lambda: RuntimeError("std::bad_alloc"),
        lambda: RuntimeError("CUDA error: out of memory"),
        lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["torch on CUDA", "Python", "torch on a CPU", "onnxruntime", "C++", "CUDA", "cuBLAS"],
)
def test_every_way_to_say_that_memory_does_not_suffice_is_understood(error: Callable[[], Exception]) -> None:
    sizes: list[int] = []

    class Small:
        def predict(self, batch: list[bytes]) -> pa.RecordBatch:
            sizes.append(len(batch))
            if len(batch) > 2:
                raise error()
            return labels(batch)

    assert all(row["GIVEN_ERROR"] is None for row in run(Small(), 12))
    assert sizes == [4, 2, 2, 2, 2, 2, 2]


class Broken:
    """A model whose device refuses all work: where it is asked for, or where it is waited for."""

    def __init__(self, where: str) -> None:
        if where != "predict":
            self.begin = lambda batch: self.predict if where == "wait" else self.predict(batch)

    def predict(self, batch: list[bytes] | None = None) -> pa.RecordBatch:
        raise RuntimeError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`")


@pytest.mark.parametrize("where", ["predict", "begin", "wait"])
def test_a_device_that_is_lost_is_no_fault_of_the_rows(where: str) -> None:
    with pytest.raises(
        DeviceLost, match=r"tagger given lost its device .*device-side assert triggered Compile"
    ):
        run(Broken(where), 10)


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: no kernel image is available for execution on the device",
        "CUDA error: uncorrectable NVLink error detected during the execution",
        "CUDA failure 719: unspecified launch failure ; GPU=0",
        "Triton Error [CUDA]: an illegal memory access was encountered",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`",
    ],
    ids=["torch", "built for other GPUs", "broken", "onnxruntime", "Triton", "cuBLAS"],
)
def test_of_what_cuda_itself_complains_no_row_is_said_to_be_the_cause(said: str) -> None:
    class Refused:
        def predict(self, batch: list[bytes]) -> pa.RecordBatch:
            raise RuntimeError(said)

    with pytest.raises(DeviceLost, match="tagger given lost its device"):
        run(Refused(), 10)
