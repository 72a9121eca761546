"""What only a GPU can tell of the aesthetic model's labels; where something is wrong the exit code is 1.

PYTHONPATH=src:benchmarks python benchmarks/gpu/checks.py [--out checks.json]

README.md beside this says more. `--device cpu --size tiny` runs those that a CPU can answer as well.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import models
import numpy as np
import torch
from figures import started
from throughput import Loaded

from laketag.taggers.aesthetic import Aesthetic
from laketag.taggers.decode import decode
from laketag.taggers.pipeline import Pipeline, predict
from laketag.taggers.protocol import settled
from laketag.taggers.rows import Row

_LOST = """
import pyarrow as pa, torch, laketag
from laketag.errors import DeviceLost

@laketag.tagger(columns={"N": pa.int64()}, reads=("bytes",), name="wrong", batch_size=4)
def wrong(batch):
    row = torch.tensor([9 if b"bad" in batch else 0], device="cuda")
    return {"N": torch.zeros(4, device="cuda")[row].cpu().expand(len(batch)).long().tolist()}

assert laketag.predict(wrong, [b"good"] * 4)["N"].to_pylist() == [0] * 4
try:
    print(laketag.predict(wrong, [b"good"] * 6 + [b"bad"] + [b"good"] * 8).to_pylist())
except DeviceLost as lost:
    print("as it should be:", lost)
"""


class Subject:
    """A model's folder, and images."""

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        """Make both."""
        self.device: str = asked.device
        self.is_gpu = self.device.startswith("cuda")
        self.images = models.photographs(asked.images)
        encoder, head = models.write_model(folder, asked.size)
        self.tagger = Aesthetic(encoder=str(encoder), head=str(head))
        self._loaded: dict[tuple[str, str], Any] = {}

    def loaded(self, dtype: str, device: str | None = None) -> Loaded:
        """Give the tagger with its model, which is loaded once."""
        place = device or self.device
        tagger = settled(replace(self.tagger, dtype=dtype), place)
        if (dtype, place) not in self._loaded:
            self._loaded[dtype, place] = tagger.load(place)
        return Loaded(tagger, self._loaded[dtype, place])

    def scores(self, dtype: str, batch: int, *, device: str | None = None) -> np.ndarray:
        """Score all images through the pipeline; none may fail."""
        return scored(Pipeline([self.loaded(dtype, device)], batch_size=batch), self.images)


def scored(pipeline: Pipeline, images: list[bytes]) -> np.ndarray:
    """Score images; none may fail."""
    rows = (Row(number, {"image": image}) for number, image in enumerate(images))
    ((_, (labels,)),) = pipeline.run([("all", rows)])
    failed = labels.batch.column("AESTHETIC_ERROR").drop_null()
    require(not len(failed), f"{len(failed)} images failed: {failed[:1].to_pylist()}")
    found: np.ndarray = labels.batch.column("AESTHETIC_SCORE").to_numpy()
    return found


def require(is_so: bool, what: str) -> None:
    """Raise what is wrong."""
    if not is_so:
        raise AssertionError(what)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Give the largest difference."""
    return float(np.abs(one.astype(np.float64) - other).max())


def of_a_cpu(subject: Subject) -> dict[str, Any]:
    """In fp32, scores are those of a CPU, whatever a program allows its own products."""
    few, subject.images = subject.images, subject.images[:8]
    try:
        here, there = subject.scores("fp32", 4), subject.scores("fp32", 4, device="cpu")
        torch.set_float32_matmul_precision("high")
        allowed = subject.scores("fp32", 4)
    finally:
        torch.set_float32_matmul_precision("highest")
        subject.images = few
    require(apart(here, there) <= 1e-4, f"fp32 is {apart(here, there)} from a CPU's")
    require(apart(here, allowed) == 0, f"a program's own setting moved scores by {apart(here, allowed)}")
    return {
        "fp32: from those of a CPU": apart(here, there),
        "fp32: spread of the scores": float(np.ptp(there)),
    }


def of_other_batches(subject: Subject) -> dict[str, Any]:
    """The same batches give the same bits; others nearly the same scores."""
    found: dict[str, Any] = {}
    for dtype, allowed in (("fp32", 1e-5), ("bf16", np.inf)):
        first, again = subject.scores(dtype, 8), subject.scores(dtype, 8)
        require(apart(first, again) == 0, f"{dtype}: the same batches moved scores by {apart(first, again)}")
        moved = {size: apart(first, subject.scores(dtype, size)) for size in (1, 5, 32)}
        require(max(moved.values()) <= allowed, f"{dtype}: other batches moved scores: {moved}")
        found[f"{dtype}: from those in batches of 8, by batch size"] = moved
    found["bf16: from fp32"] = apart(subject.scores("bf16", 8), subject.scores("fp32", 8))
    return found


def begun_ahead(subject: Subject) -> dict[str, Any]:
    """Batches that are begun before others have ended hold what they were given."""
    model = subject.loaded("bf16").model
    begin = getattr(model, "begin", lambda batch: lambda: model.predict(batch))
    random = np.random.default_rng(5)
    side = model._encoder.side
    batches = [list(random.integers(0, 256, (8, side, side, 3), np.uint8)) for _ in range(24)]
    alone = [model.predict(batch) for batch in batches]
    ahead = [wait() for wait in [begin(batch) for batch in batches]]
    wrong = [number for number, pair in enumerate(zip(alone, ahead, strict=True)) if pair[0] != pair[1]]
    require(not wrong, f"batches {wrong} have other labels when they are begun ahead")
    return {"batches begun ahead that are right": len(batches)}


def in_little_memory(subject: Subject) -> dict[str, Any]:
    """A batch that does not fit is halved until it does, no row fails, and what it took is given back."""
    if not subject.is_gpu:
        return {"memory": "not on a CPU"}
    device = torch.device(subject.device)
    loaded = subject.loaded("bf16")
    images = subject.images * 4
    expected = scored(Pipeline([loaded], batch_size=8), images)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    rest = torch.cuda.memory_reserved(device)
    scored(Pipeline([loaded], batch_size=8), images)
    room = torch.cuda.max_memory_reserved(device) + (64 << 20)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(
        room / torch.cuda.get_device_properties(device).total_memory, device
    )
    try:
        pipeline = Pipeline([loaded], batch_size=64)
        found = scored(pipeline, images)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    (predictor,) = pipeline._predictors
    require(predictor._fits < 64, "64 fitted after all: this shows nothing")
    after = torch.cuda.memory_allocated(device)
    require(after <= before, f"{after - before:,} bytes of the GPU are still held")
    return {
        "memory: MB that a batch of 8 reserves": (room - rest) / 1e6,
        "memory: rows that fit": predictor._fits,
        "memory: from those in batches of 8": apart(found, expected),
    }


def lost(subject: Subject) -> dict[str, Any]:
    """An assertion in a kernel loses the device, and no row is said to have failed for it."""
    if not subject.is_gpu:
        return {"a lost device": "not on a CPU"}
    done = subprocess.run([sys.executable, "-c", _LOST], capture_output=True, text=True, check=False)
    said = done.stdout.strip().splitlines()[-1:] or done.stderr.strip().splitlines()[-1:]
    require(bool(said) and said[0].startswith("as it should be"), f"a lost device: {said}")
    return {"a lost device": said[0]}


def asleep(subject: Subject) -> dict[str, Any]:
    """Who waits for the device leaves its core to others."""
    if not subject.is_gpu:
        return {"waiting": "not on a CPU"}
    model = subject.loaded("bf16").model
    rows = [model.prepare({"image": decode(subject.images[0])})] * 128
    model.predict(rows)
    wait = model.begin(rows)
    started, computed = time.perf_counter(), time.thread_time()
    wait()
    waited, computed = time.perf_counter() - started, time.thread_time() - computed
    require(computed < waited / 2, f"waiting {waited:.3f} s took {computed:.3f} s of a core")
    return {"waiting: seconds": waited, "waiting: CPU seconds": computed}


def by_its_name(subject: Subject) -> dict[str, Any]:
    """`laketag.predict` is told of the device alone, and a broken image costs only its own row."""
    table = predict(subject.tagger, [*subject.images[:5], b"broken"], device=subject.device)
    require(table["AESTHETIC_ERROR"].null_count == 5, f"errors: {table['AESTHETIC_ERROR'].to_pylist()}")
    return {"from bytes to labels": table["AESTHETIC_SCORE"].to_pylist()}


CHECKS: tuple[Callable[[Subject], dict[str, Any]], ...] = (
    by_its_name,
    of_a_cpu,
    of_other_batches,
    begun_ahead,
    in_little_memory,
    asleep,
    lost,
)


def main() -> int:
    asked, figures = started("gpu/checks", __doc__, images=48)
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(asked, Path(folder))
        for check in CHECKS:
            figures.stage(check.__name__, lambda check=check: check(subject))
    return figures.end()


if __name__ == "__main__":
    sys.exit(main())
