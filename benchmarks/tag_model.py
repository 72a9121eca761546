"""nsfw from end to end against what its parts allow on shared cores: 1 / (1/decode + 1/model).

python benchmarks/tag_model.py [--images 800]
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=800)
    count = parser.parse_args().images
    images = photographs(count)
    tagger = laketag.find_tagger("nsfw")
    model = tagger.load("cpu")
    size = getattr(tagger, "batch_size", 32)
    cores = os.cpu_count() or 1

    def prepare(image: bytes) -> object:
        return model.prepare({"image": decode(image)})

    folder = tempfile.mkdtemp(prefix="laketag-bench-")
    try:
        with ThreadPoolExecutor(cores) as pool:
            started = time.perf_counter()
            prepared = list(pool.map(prepare, images))
            decode_rate = count / (time.perf_counter() - started)
            batches = [prepared[at : at + size] for at in range(0, count, size)]
            started = time.perf_counter()
            # The session has one thread; as many of them as there are cores is what the model allows at most.
            list(pool.map(model.predict, batches))
            model_rate = count / (time.perf_counter() - started)
        lance.write_dataset(pa.table({"jpg": pa.array(images, pa.binary())}), folder, max_rows_per_file=count)
        lance.write_dataset(pa.table({"jpg": pa.array(images[:1], pa.binary())}), f"{folder}/one")
        started = time.perf_counter()
        laketag.tag(f"{folder}/one", ["nsfw"], engine=laketag.Local(cores))
        start_up = time.perf_counter() - started
        settings = laketag.TagSettings(chunk_rows=max(size, count // cores))
        report = laketag.tag(folder, ["nsfw"], settings=settings, engine=laketag.Local(cores))
        rate = count / (report.seconds - start_up)
        allowed = 1 / (1 / decode_rate + 1 / model_rate)
        bench.finish(
            "tag_model",
            {
                "images": count,
                "mean image bytes": float(np.mean([len(image) for image in images])),
                "decode and prepare alone: images/s": decode_rate,
                "model alone: images/s": model_rate,
                "what the parts allow: images/s": allowed,
                "end to end: images/s": rate,
                "start-up seconds (1 image)": start_up,
                "ratio end to end / what the parts allow": rate / allowed,
            },
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
