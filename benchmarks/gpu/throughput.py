"""The aesthetic model on a GPU: decoding, model, and both; images a second, and what holds them back.

PYTHONPATH=src:benchmarks python benchmarks/gpu/throughput.py [--device cuda:0] [--size so400m] [--compile]

Needs torch, transformers, Pillow, numpy, pyarrow, xxhash, cloudpickle and laketag's source on the path: no
Lance, no weights, no network. `--device cpu --size tiny` shows that it works where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import models
import torch

from laketag.taggers.aesthetic import Aesthetic
from laketag.taggers.decode import decode
from laketag.taggers.pipeline import Pipeline, cores
from laketag.taggers.protocol import settled
from laketag.taggers.rows import Row

_MATRIX = {"cuda": 8192, "cpu": 1024}
_WARM_UP = 3


@dataclass(frozen=True)
class Loaded:
    """A tagger whose model is loaded already: it is measured with several batch sizes."""

    tagger: Any
    model: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tagger, name)

    def load(self, device: str) -> Any:
        return self.model


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


def decode_rate(model: Any, images: list[bytes], threads: int) -> float:
    """Decode and prepare in threads, and nothing else."""
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        list(pool.map(lambda image: model.prepare({"image": decode(image)}), images))
        return len(images) / (time.perf_counter() - started)


def model_rate(model: Any, prepared: list[Any], batch: int, device: str) -> float:
    """Predict rows that are prepared already, the next batch begun before this one is waited for."""
    batches = [prepared[at : at + batch] for at in range(0, len(prepared) - batch + 1, batch)]
    begin = getattr(model, "begin", lambda rows: lambda: model.predict(rows))

    def predict() -> None:
        before = None
        for rows in batches:
            begun = begin(rows)
            if before is not None:
                before()
            before = begun
        if before is not None:
            before()

    return rate(device, len(batches) * batch, predict)


def compiled_rate(model: Any, prepared: list[Any], batch: int, device: str) -> dict[str, float]:
    """Compile the vision tower, in place, and predict with it.

    Reaches into the model: the tagger gets an option once a GPU shows that it pays.
    """
    model._encoder._model.compile()
    started = time.perf_counter()
    model.predict(prepared[:batch])
    waited(device)
    return {
        "compiled model only: seconds until its first batch": time.perf_counter() - started,
        "compiled model only: images/s": model_rate(model, prepared, batch, device),
    }


def end_to_end(pipeline: Pipeline, images: list[bytes], chunk: int) -> dict[str, float]:
    """Label images in chunks, as a worker does, all but the reading and the staging."""
    before = replace(pipeline.stats)
    chunks = ((at, _rows(images, at, chunk)) for at in range(0, len(images), chunk))
    labelled = sum(len(labels.positions) for _, (labels,) in pipeline.run(chunks))
    stats = pipeline.stats.since(before)
    return {
        "images/s": labelled / stats.seconds,
        "device busy": stats.busy_seconds / stats.seconds,
        "in predict": stats.predict_seconds / stats.seconds,
        "waiting for rows": stats.wait_seconds / stats.seconds,
        "threads at work": (stats.decode_seconds + stats.prepare_seconds) / stats.thread_seconds,
    }


def _rows(images: list[bytes], at: int, chunk: int) -> Iterator[Row]:
    for position in range(at, min(at + chunk, len(images))):
        yield Row(position, {"image": images[position]})


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; figures by name."""
    device = asked.device
    distinct = models.photographs(min(asked.images, 256), *map(int, asked.pixels.split("x")))
    images = [distinct[number % len(distinct)] for number in range(asked.images)]
    with tempfile.TemporaryDirectory() as folder:
        encoder, head = models.write_model(Path(folder), asked.size)
        tagger = settled(Aesthetic(encoder=str(encoder), head=str(head), dtype=asked.dtype), device)
        model = tagger.load(device)
    peak = matrix_rate(device, torch.bfloat16 if tagger.dtype == "bf16" else torch.float32)
    prepared = [model.prepare({"image": decode(image)}) for image in distinct]
    rows = [prepared[number % len(prepared)] for number in range(min(asked.images, 2048))]
    one, all_ = (decode_rate(model, distinct, threads) for threads in (1, asked.threads))
    sweep = {size: model_rate(model, rows, size, device) for size in asked.batches if size <= len(rows)}
    best = max(sweep, key=lambda size: sweep[size])
    runs = {}
    for size in asked.batches:
        line = Pipeline([Loaded(tagger, model)], device=device, threads=asked.threads, batch_size=size)
        end_to_end(line, images[: _WARM_UP * size], _WARM_UP * size)
        runs[size] = end_to_end(line, images, max(1024, 32 * size))
    pipeline_best = max(runs.values(), key=lambda run: run["images/s"])
    # Last, since the model stays so.
    compiled = compiled_rate(model, rows, best, device) if asked.compile else {}
    return {
        "size": asked.size,
        "dtype": tagger.dtype,
        "threads": asked.threads,
        "mean image bytes": sum(map(len, distinct)) / len(distinct),
        "matrix products: TFLOP/s": peak / 1e12,
        "decode and prepare only, 1 thread: images/s": one,
        "decode and prepare only, all threads: images/s": all_,
        "model only: images/s by batch size": sweep,
        "model only: best batch size": best,
        "model only: share of the matrix-product rate": sweep[best] * models.operations(asked.size) / peak,
        "cores to one device, that decoding keeps up": sweep[best] / one,
        "end to end by batch size": runs,
        "end to end, best: images/s": pipeline_best["images/s"],
        "end to end, best: device busy": pipeline_best["device busy"],
        "end to end, best: share of the slower side": pipeline_best["images/s"] / min(sweep[best], all_),
        **compiled,
    }


def main() -> None:
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
    parser.add_argument(
        "--compile", action="store_true", help="the model by torch.compile, too; takes minutes"
    )
    parser.add_argument("--threads", type=int, default=cores())
    asked = parser.parse_args()
    figures = measure(asked)
    machine = {
        "device": torch.cuda.get_device_name(asked.device) if asked.device != "cpu" else platform.processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **models.versions("torch", "transformers", "PIL", "pyarrow"),
    }
    for key, value in figures.items():
        print(f"{key:52} {value:.3f}" if isinstance(value, float) else f"{key:52} {value}", file=sys.stderr)
    print(json.dumps({"benchmark": "gpu/throughput", "machine": machine, "figures": figures}))


if __name__ == "__main__":
    main()
