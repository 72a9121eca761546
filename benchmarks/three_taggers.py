"""Three taggers in one pass against three runs: large photographs are read and decoded once.

python benchmarks/three_taggers.py [--long] [--images 120] [--rounds 5]
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import bench
import lance
import models
import pyarrow as pa

import laketag
from laketag.taggers.aesthetic import Aesthetic
from laketag.taggers.decode import decode

_AGAIN = laketag.Rows(recompute=True)


def written(folder: Path, images: list[bytes]) -> str:
    """Write a dataset of these images."""
    table = pa.table({"jpg": pa.array(images, pa.binary())})
    lance.write_dataset(table, str(folder), max_rows_per_file=len(images))
    return str(folder)


def tag_seconds(uris: tuple[str, str], taggers: list[Any]) -> float:
    """Tag many images, less what it takes to tag one; CPU seconds."""
    one, many = (bench.cost(lambda uri=uri: laketag.tag(uri, taggers, rows=_AGAIN)) for uri in uris)
    return many.less(one).cpu


def main() -> None:
    asked = bench.asked(__doc__, images=(12, 120), rounds=(1, 5))
    images = models.photographs(asked.images, 2000, 1500)
    with tempfile.TemporaryDirectory() as folder:
        encoder, head = models.write_model(Path(folder, "model"), "tiny")
        taggers = [Aesthetic(str(encoder), head=str(head)), *map(laketag.find_tagger, ("nsfw", "quality"))]
        uris = (written(Path(folder, "one"), images[:1]), written(Path(folder, "many"), images))
        found = []
        for _ in range(asked.rounds):
            each = [tag_seconds(uris, [tagger]) for tagger in taggers]
            decoding = bench.cost(lambda: [decode(image) for image in images])
            found.append((tag_seconds(uris, taggers), sum(each), decoding.cpu))
    bench.finish(
        "three_taggers",
        {
            "images of 3 megapixels": asked.images,
            "rounds": asked.rounds,
            "decoding alone, once: CPU seconds": statistics.median(decoding for _, _, decoding in found),
            "three taggers in one pass: CPU seconds": statistics.median(one for one, _, _ in found),
            "three runs: CPU seconds": statistics.median(three for _, three, _ in found),
            "ratio one pass / three runs": statistics.median(one / three for one, three, _ in found),
            "decodings saved, of two": statistics.median((three - one) / once for one, three, once in found),
        },
        long=asked.long,
    )


if __name__ == "__main__":
    main()
