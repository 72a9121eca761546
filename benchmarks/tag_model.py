"""nsfw from end to end against what its parts allow on shared cores: 1 / (1/decode + 1/model).

python benchmarks/tag_model.py [--long] [--images 600] [--rounds 5]
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import bench
import lance
import numpy as np
import pyarrow as pa
from PIL import Image

import laketag
from laketag.taggers.decode import decode


def photographs(count: int) -> list[bytes]:
    """Make JPEGs of the size and smoothness of web photographs, about 60 KB each."""
    random = np.random.default_rng(7)
    made = []
    for _ in range(count):
        small = Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        file = io.BytesIO()
        small.resize((800, 600), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        made.append(file.getvalue())
    return made


@dataclass(frozen=True)
class Round:
    """One measurement of both sides, one after the other; images/s."""

    decode: float
    model: float
    end_to_end: float

    @property
    def allowed(self) -> float:
        """What the parts allow on cores that they share."""
        return 1 / (1 / self.decode + 1 / self.model)


def measure(images: list[bytes], model: object, size: int, start_up: float) -> Round:
    """Decode alone, predict alone, then tag."""
    count, cores = len(images), os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool, tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        prepared = list(pool.map(lambda image: model.prepare({"image": decode(image)}), images))
        decoded = time.perf_counter()
        for at in range(0, count, size):
            model.predict(prepared[at : at + size])
        predicted = time.perf_counter()
        lance.write_dataset(pa.table({"jpg": pa.array(images, pa.binary())}), folder, max_rows_per_file=count)
        report = laketag.tag(folder, ["nsfw"])
    return Round(
        count / (decoded - started), count / (predicted - decoded), count / (report.seconds - start_up)
    )


def start_up_seconds(image: bytes) -> float:
    """Tag one image: processes, imports, the model."""
    with tempfile.TemporaryDirectory() as folder:
        lance.write_dataset(pa.table({"jpg": pa.array([image], pa.binary())}), folder)
        return laketag.tag(folder, ["nsfw"]).seconds


def main() -> None:
    asked = bench.asked(__doc__, images=(200, 600), rounds=(1, 5))
    images = photographs(asked.images)
    tagger = laketag.find_tagger("nsfw")
    model = tagger.load("cpu")
    start_up = statistics.median(start_up_seconds(images[0]) for _ in range(3))
    rounds = [measure(images, model, tagger.batch_size, start_up) for _ in range(asked.rounds)]
    ratios = sorted(one.end_to_end / one.allowed for one in rounds)
    bench.finish(
        "tag_model",
        {
            "images": asked.images,
            "rounds": asked.rounds,
            "mean image bytes": statistics.fmean(len(image) for image in images),
            "decode and prepare alone: images/s": statistics.median(one.decode for one in rounds),
            "model alone: images/s": statistics.median(one.model for one in rounds),
            "what the parts allow: images/s": statistics.median(one.allowed for one in rounds),
            "end to end: images/s": statistics.median(one.end_to_end for one in rounds),
            "start-up seconds (1 image)": start_up,
            "ratio end to end / what the parts allow": statistics.median(ratios),
            "ratio, least of the rounds": ratios[0],
            "ratio, most of the rounds": ratios[-1],
        },
        long=asked.long,
    )


if __name__ == "__main__":
    main()
