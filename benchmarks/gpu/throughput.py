"""The aesthetic model on a GPU: decoding, model, and both; images a second, and what holds them back.

PYTHONPATH=src:benchmarks python benchmarks/gpu/throughput.py [--out benchmarks/results/gpu.json]

README.md beside this says what to run on a machine that is lent for minutes. It needs torch, transformers,
Pillow, numpy, pyarrow, xxhash, cloudpickle and laketag's source on the path: no Lance, no weights, no
network.
`--device cpu --size tiny` shows that it works where there is no GPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import models
import torch
from figures import Figures

from laketag.taggers.aesthetic import Aesthetic
from laketag.taggers.decode import decode
from laketag.taggers.pipeline import Pipeline, cores
from laketag.taggers.protocol import errors_of, settled
from laketag.taggers.rows import Row

_MATRIX = {"cuda": 8192, "cpu": 1024}
_DISTINCT = 64
_KERNELS = 16


@dataclass(frozen=True)
class Loaded:
    """A tagger whose model is loaded already: it is measured with several batch sizes."""

    tagger: Any
    model: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tagger, name)

    def load(self, device: str) -> Any:
        return self.model


class Subject:
    """A model, and images for it; what is measured by several functions is noted."""

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        """Make both."""
        self.asked = asked
        self.device: str = asked.device
        self.distinct = models.photographs(min(asked.images, _DISTINCT), *map(int, asked.pixels.split("x")))
        self.images = [self.distinct[number % len(self.distinct)] for number in range(asked.images)]
        encoder, head = models.write_model(folder, asked.size)
        self.tagger: Any = settled(
            Aesthetic(encoder=str(encoder), head=str(head), dtype=asked.dtype), self.device
        )
        self.model: Any = self.tagger.load(self.device)
        prepared = [self.model.prepare({"image": decode(image)}) for image in self.distinct]
        self.rows = [prepared[number % len(prepared)] for number in range(min(asked.images, 2048))]
        self.launching = Launching(self.model)
        self.decoded = 0.0
        self.sweep: dict[int, float] = {}

    @property
    def best(self) -> int:
        """The batch size at which the model alone was fastest."""
        return max(self.sweep, key=lambda size: self.sweep[size], default=self.asked.batches[0])


class Launching:
    """Notes how long a model takes to begin a batch: what the program does for a GPU, not what that does."""

    def __init__(self, model: Any) -> None:
        """Stand in front of the model's `begin`, where it has one."""
        self.seconds, self.batches = 0.0, 0
        begin = getattr(model, "begin", None)
        if begin is not None:
            model.begin = lambda rows: self._begun(begin, rows)

    def _begun(self, begin: Callable[[Any], Any], rows: Any) -> Any:
        started = time.perf_counter()
        wait = begin(rows)
        self.seconds += time.perf_counter() - started
        self.batches += 1
        return wait

    def taken(self) -> float:
        """Give the mean of a batch since the last time, in milliseconds."""
        mean = 1000 * self.seconds / max(1, self.batches)
        self.seconds, self.batches = 0.0, 0
        return mean


def waited(device: str) -> None:
    """Wait for what the device has to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def rate(device: str, count: int, work: Callable[[], Any]) -> float:
    """Time something that the device does, after the same once more; things a second."""
    work()
    waited(device)
    started = time.perf_counter()
    work()
    waited(device)
    return count / (time.perf_counter() - started)


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Measure what matrix products reach: operations a second."""
    side = _MATRIX[device.partition(":")[0]]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    repeats = 20

    def multiply() -> None:
        for _ in range(repeats):
            torch.mm(left, right)

    return rate(device, repeats, multiply) * 2 * side**3


def decoding(subject: Subject) -> dict[str, Any]:
    """Decode and prepare, and nothing else."""
    one, some = subject.distinct, subject.images[:1024]
    alone = decode_rate(subject.model, one, 1)
    subject.decoded = decode_rate(subject.model, some, subject.asked.threads)
    return {
        "mean image bytes": sum(map(len, one)) / len(one),
        "threads": subject.asked.threads,
        "decode and prepare only, 1 thread: images/s": alone,
        "decode and prepare only, all threads: images/s": subject.decoded,
    }


def decode_rate(model: Any, images: list[bytes], threads: int) -> float:
    """Decode and prepare in threads, and nothing else."""
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        list(pool.map(lambda image: model.prepare({"image": decode(image)}), images))
        return len(images) / (time.perf_counter() - started)


def model_alone(subject: Subject) -> dict[str, Any]:
    """Predict rows that are prepared already, in batches of several sizes."""
    is_bf16 = subject.tagger.dtype == "bf16"
    peak = matrix_rate(subject.device, torch.bfloat16 if is_bf16 else torch.float32)
    launching = {}
    for size in subject.asked.batches:
        if size <= len(subject.rows):
            subject.launching.taken()
            subject.sweep[size] = model_rate(subject, size)
            launching[size] = subject.launching.taken()
    best = subject.sweep[subject.best]
    return {
        "matrix products: TFLOP/s": peak / 1e12,
        "model only: images/s by batch size": dict(subject.sweep),
        "model only: best batch size": subject.best,
        "model only: share of the matrix-product rate": best * models.operations(subject.asked.size) / peak,
        "model only: ms to begin a batch, by batch size": launching,
    }


def model_rate(subject: Subject, batch: int) -> float:
    """Predict, the next batch begun before this one is waited for."""
    rows, model = subject.rows, subject.model
    batches = [rows[at : at + batch] for at in range(0, len(rows) - batch + 1, batch)]
    begin = getattr(model, "begin", lambda rows: lambda: model.predict(rows))

    def predict() -> None:
        before = None
        for given in batches:
            begun = begin(given)
            if before is not None:
                before()
            before = begun
        if before is not None:
            before()

    return rate(subject.device, len(batches) * batch, predict)


def together(subject: Subject) -> dict[str, Any]:
    """Label images from end to end, in batches of several sizes."""
    runs = {size: end_to_end(subject, size, subject.images) for size in subject.asked.batches}
    best = max(runs.values(), key=lambda run: run["images/s"])
    slower = [one for one in (subject.sweep.get(subject.best), subject.decoded) if one]
    share = {"end to end, best: share of the slower side": best["images/s"] / min(slower)} if slower else {}
    return {
        "end to end by batch size": runs,
        "end to end, best: images/s": best["images/s"],
        "end to end, best: device busy": best["device busy"],
        **share,
    }


def end_to_end(subject: Subject, size: int, images: list[bytes]) -> dict[str, float]:
    """Label images from end to end, after some to warm up."""
    return timed(subject, warmed(subject, size), size, images)


def warmed(subject: Subject, size: int) -> Pipeline:
    """Give a pipeline that has labelled some images."""
    pipeline = Pipeline(
        [Loaded(subject.tagger, subject.model)],
        device=subject.device,
        threads=subject.asked.threads,
        batch_size=size,
    )
    label(pipeline, subject.images[: 3 * size], 3 * size)
    return pipeline


def timed(subject: Subject, pipeline: Pipeline, size: int, images: list[bytes]) -> dict[str, float]:
    """Label images in chunks, as a worker does, all but the reading and the staging."""
    subject.launching.taken()
    before, computed = replace(pipeline.stats), time.process_time()
    label(pipeline, images, max(1024, 32 * size))
    stats, computed = pipeline.stats.since(before), time.process_time() - computed
    found, alone = len(images) / stats.seconds, subject.sweep.get(size)
    return {
        "images/s": found,
        **({"share of the model alone": found / alone} if alone else {}),
        "device busy": stats.busy_seconds / stats.seconds,
        "in predict": stats.predict_seconds / stats.seconds,
        "waiting for rows": stats.wait_seconds / stats.seconds,
        "threads at work": (stats.decode_seconds + stats.prepare_seconds) / stats.thread_seconds,
        "ms to begin a batch": subject.launching.taken(),
        "CPU ms an image": 1000 * computed / len(images),
    }


def label(pipeline: Pipeline, images: list[bytes], chunk: int) -> None:
    """Label images, of which none may fail."""
    chunks = ((at, _rows(images, at, chunk)) for at in range(0, len(images), chunk))
    for _, (labels,) in pipeline.run(chunks):
        failed = errors_of(labels.batch).drop_null()
        if len(failed):
            raise RuntimeError(f"{len(failed)} images have no label: {failed[0]}")


def _rows(images: list[bytes], at: int, chunk: int) -> Iterator[Row]:
    for position in range(at, min(at + chunk, len(images))):
        yield Row(position, {"image": images[position]})


def kernels(subject: Subject) -> dict[str, Any]:
    """Name what the device spends its time on, and how much of the time it does nothing."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    kind = "CUDA" if subject.device.startswith("cuda") else "CPU"
    pipeline = warmed(subject, subject.best)
    with profile(activities=[getattr(ProfilerActivity, kind)]) as seen:
        run = timed(subject, pipeline, subject.best, subject.images[:1024])
    found = [one for one in seen.events() if one.device_type == getattr(DeviceType, kind)]
    work = [one for one in found if not one.name.startswith(("Memcpy", "Memset"))]
    busy, ended = 0.0, 0.0
    taken: Counter[str] = Counter()
    for one in sorted(work, key=lambda one: one.time_range.start):
        busy += max(0.0, one.time_range.end - max(ended, one.time_range.start))
        ended = max(ended, one.time_range.end)
        taken[one.name[:80]] += one.time_range.end - one.time_range.start
    span = ended - min(one.time_range.start for one in work)
    return {
        "kernels: share of the time that one is at work, end to end": busy / span,
        "kernels: the same by the pipeline's own count": run["device busy"],
        "kernels: shares": {name: time / busy for name, time in taken.most_common(_KERNELS)},
    }


def compiled(subject: Subject) -> dict[str, Any]:
    """Compile the vision tower, in place, and measure it again.

    Reaches into the model: the tagger gets an option once a GPU shows that it pays.
    """
    size, some = subject.best, subject.rows[: subject.best]
    before = subject.model.predict(some)["AESTHETIC_SCORE"].to_numpy()
    subject.model._encoder._model.compile()
    started = time.perf_counter()
    after = subject.model.predict(some)["AESTHETIC_SCORE"].to_numpy()
    first = time.perf_counter() - started
    alone = model_rate(subject, size)
    subject.sweep[size] = alone
    return {
        "compiled: seconds until the first batch": first,
        "compiled: largest difference of a score": float(abs(after - before).max()),
        "compiled: model only: images/s": alone,
        "compiled: end to end": end_to_end(subject, size, subject.images),
    }


STAGES = {
    "decode": decoding,
    "model": model_alone,
    "pipeline": together,
    "kernels": kernels,
    "compile": compiled,  # last, since the model stays so
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", default="so400m", choices=sorted(models.SIZES))
    parser.add_argument("--dtype", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--pixels", default="1024x768")
    parser.add_argument(
        "--batches", default=[16, 32, 64, 128], type=lambda text: [*map(int, text.split(","))]
    )
    parser.add_argument("--stages", default=[*STAGES], type=lambda text: text.split(","))
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--out", type=Path, help="written again after each stage")
    asked = parser.parse_args()
    is_long = asked.size == "so400m" and asked.device.startswith("cuda")
    figures = Figures("gpu/throughput", asked.device, is_long, asked.out)
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(asked, Path(folder))
    figures.stage("subject", lambda: {"size": asked.size, "dtype": subject.tagger.dtype})
    for name in asked.stages:
        figures.stage(name, lambda name=name: STAGES[name](subject))
    return figures.end()


if __name__ == "__main__":
    sys.exit(main())
