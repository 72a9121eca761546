"""Three taggers in one pass against three runs: large photographs are read and decoded once.

python benchmarks/three_taggers.py [--images 120] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bench
import lance
import models
import pyarrow as pa

import laketag
from laketag.taggers.aesthetic import Aesthetic
from laketag.taggers.decode import decode
from laketag.taggers.pipeline import cores


def tag_seconds(taggers: list[Any], images: list[bytes]) -> float:
    """Tag a dataset of these images, with one worker."""
    with tempfile.TemporaryDirectory() as lake:
        table = pa.table({"jpg": pa.array(images, pa.binary())})
        lance.write_dataset(table, lake, max_rows_per_file=len(images))
        return laketag.tag(lake, taggers).seconds


def decode_seconds(images: list[bytes]) -> float:
    """Decode on all cores, and nothing else."""
    with ThreadPoolExecutor(cores()) as pool:
        started = time.perf_counter()
        for _ in pool.map(decode, images):
            pass
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    images = models.photographs(asked.images, 2000, 1500)
    with tempfile.TemporaryDirectory() as folder:
        encoder, head = models.write_model(Path(folder), "tiny")
        taggers = [Aesthetic(str(encoder), head=str(head)), *map(laketag.find_tagger, ("nsfw", "quality"))]
        found = []
        for _ in range(asked.rounds):
            one = tag_seconds(taggers, images)
            each = [tag_seconds([tagger], images) for tagger in taggers]
            found.append((one, sum(each), decode_seconds(images)))
    bench.finish(
        "three_taggers",
        {
            "images of 3 megapixels": asked.images,
            "rounds": asked.rounds,
            "decoding alone, once: seconds": statistics.median(decode for _, _, decode in found),
            "three taggers in one pass: seconds": statistics.median(one for one, _, _ in found),
            "three runs: seconds": statistics.median(three for _, three, _ in found),
            "ratio one pass / three runs": statistics.median(one / three for one, three, _ in found),
            "decodings saved, of two": statistics.median(
                (three - one) / decode for one, three, decode in found
            ),
        },
    )


if __name__ == "__main__":
    main()
