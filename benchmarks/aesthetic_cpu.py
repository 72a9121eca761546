"""The aesthetic model on a CPU: against the public package one image at a time, and against its own parts.

python benchmarks/aesthetic_cpu.py [--long] [--size so400m] [--images 12] [--small-images 400] [--rounds 5]

The public package is `aesthetic-predictor-v2-5`, which the Makefile installs for the tests. Weights are
random.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bench
import lance
import models
import numpy as np
import pyarrow as pa
import torch
from PIL import Image

import laketag
from laketag.taggers.aesthetic import Aesthetic
from laketag.taggers.decode import decode
from laketag.taggers.pipeline import Pipeline, cores
from laketag.taggers.protocol import settled
from laketag.taggers.rows import Row

_MODES = ("RGB", "L", "CMYK", "RGBA", "P", "1")


def of_every_mode(count: int) -> list[bytes]:
    """Make photographs, each in another mode than the one before it."""
    made = []
    for number, jpeg in enumerate(models.photographs(count)):
        mode = _MODES[number % len(_MODES)]
        file = io.BytesIO()
        Image.open(io.BytesIO(jpeg)).convert(mode).save(
            file, "JPEG" if mode in ("RGB", "L", "CMYK") else "PNG"
        )
        made.append(file.getvalue())
    return made


def against_the_public_package(size: str, count: int, folder: Path) -> dict[str, Any]:
    """Score the same images both ways."""
    from aesthetic_predictor_v2_5 import convert_v2_5_from_siglip

    images = of_every_mode(count)
    encoder, head = models.write_model(folder, size)
    public, processor = convert_v2_5_from_siglip(str(head), str(encoder))

    theirs = []
    started = time.perf_counter()
    with torch.inference_mode():
        for data in images:
            image = Image.open(io.BytesIO(data)).convert("RGB")
            pixels = processor(images=image, return_tensors="pt").pixel_values
            theirs.append(public(pixels).logits.item())
    middle = time.perf_counter()
    del public
    pipeline = Pipeline([settled(Aesthetic(encoder=str(encoder), head=str(head)), "cpu")])
    loaded = time.perf_counter()
    rows = (Row(number, {"image": image}) for number, image in enumerate(images))
    ((_, (labels,)),) = pipeline.run([("all", rows)])
    ended = time.perf_counter()
    ours = labels.batch["AESTHETIC_SCORE"].to_numpy()
    return {
        "full: size": size,
        "full: images, of every mode": count,
        "full: public package, one at a time: images/s": count / (middle - started),
        "full: laketag, end to end: images/s": count / (ended - loaded),
        "full: ratio laketag / public package": (middle - started) / (ended - loaded),
        "full: spread of the scores": float(np.ptp(theirs)),
        "full: largest difference, millionths of a score": 1e6 * float(np.abs(np.array(theirs) - ours).max()),
    }


def against_its_parts(count: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Tag a dataset with a small model, and compare with 1 / (1/decode + 1/model) on the same cores."""
    encoder, head = models.write_model(folder, "small")
    tagger = settled(Aesthetic(encoder=str(encoder), head=str(head)), "cpu")
    model, images, again = tagger.load("cpu"), models.photographs(count), laketag.Rows(recompute=True)
    one, all_ = (written(folder / str(len(some)), some) for some in (images[:1], images))
    found = []
    for _ in range(rounds):
        start_up = bench.cost(lambda: laketag.tag(one, [tagger], rows=again))
        parts = bench.cost(lambda: decode_then_predict(model, images, tagger.batch_size))
        found.append((parts, bench.cost(lambda: laketag.tag(all_, [tagger], rows=again)).less(start_up)))
    ratios = sorted(parts.cpu / whole.cpu for parts, whole in found)
    return {
        "small: images": count,
        "small: rounds": rounds,
        "small: CPU seconds of decoding and model, each alone": statistics.median(p.cpu for p, _ in found),
        "small: CPU seconds end to end, less start-up": statistics.median(w.cpu for _, w in found),
        "small: ratio in CPU seconds, parts / end to end": statistics.median(ratios),
        "small: least of the rounds": ratios[0],
        "small: most of the rounds": ratios[-1],
        "small: ratio in wall seconds": statistics.median(p.wall / w.wall for p, w in found),
    }


def decode_then_predict(model: Any, images: list[bytes], batch: int) -> None:
    """Do the parts, each alone on all cores."""
    with ThreadPoolExecutor(cores()) as pool:
        prepared = list(pool.map(lambda image: model.prepare({"image": decode(image)}), images))
    for at in range(0, len(images), batch):
        model.predict(prepared[at : at + batch])


def written(folder: Path, images: list[bytes]) -> str:
    """Write a dataset of these images."""
    table = pa.table({"jpg": pa.array(images, pa.binary())})
    lance.write_dataset(table, str(folder), max_rows_per_file=len(images))
    return str(folder)


def with_drafts(folder: Path) -> dict[str, Any]:
    """Prepare large photographs whole and from drafts: how much faster, and how far the pixels move."""
    encoder, head = models.write_model(folder, "small")
    whole = Aesthetic(encoder=str(encoder), head=str(head))
    plain, drafts = whole.load("cpu"), Aesthetic(whole.encoder, head=whole.head, draft=True).load("cpu")
    plain._encoder.side = drafts._encoder.side = 384  # of the published model
    images = models.photographs(6, 3200, 2400) + models.photographs(6, 4000, 3000)
    started = time.perf_counter()
    exact = [plain.prepare({"image": decode(image)}) for image in images]
    middle = time.perf_counter()
    near = [drafts.prepare({"bytes": image}) for image in images]
    ended = time.perf_counter()
    moved = np.abs(np.array(exact, np.int16) - np.array(near, np.int16))
    return {
        "draft: photographs of 8 and 12 megapixels": len(images),
        "draft: share of the time": (ended - middle) / (middle - started),
        "draft: mean difference of a pixel, of 255 levels": float(moved.mean()),
        "draft: largest difference": int(moved.max()),
    }


def main() -> None:
    asked = bench.asked(
        __doc__, size=("small", "so400m"), images=(6, 12), small_images=(100, 400), rounds=(1, 5)
    )
    with tempfile.TemporaryDirectory() as folder:
        parts = against_its_parts(asked.small_images, asked.rounds, Path(folder, "small"))
        draft = with_drafts(Path(folder, "draft"))
        full = against_the_public_package(asked.size, asked.images, Path(folder, "full"))
    bench.finish("aesthetic_cpu", {**full, **parts, **draft}, long=asked.long)


if __name__ == "__main__":
    main()
