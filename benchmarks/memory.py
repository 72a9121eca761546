"""The memory of a worker on a large fragment: 3 GB of images in one, tagged by a null model and by nsfw.

python benchmarks/memory.py [--long] [--gigabytes 3.0]
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bench
import lance
import numpy as np
import peaks
import pyarrow as pa
from PIL import Image

RUN = """
import sys
sys.path.insert(0, sys.argv[3])
import laketag, tag_io
laketag.tag(sys.argv[1], [tag_io.Null() if sys.argv[2] == "null" else "nsfw"])
"""


def photograph(number: int) -> bytes:
    """Make a JPEG of about 1.5 MB: 8 megapixels of soft noise."""
    random = np.random.default_rng(number)
    small = Image.fromarray(random.integers(0, 256, (600, 800, 3), dtype=np.uint8))
    file = io.BytesIO()
    small.resize((3264, 2448), Image.Resampling.BILINEAR).save(file, "JPEG", quality=88)
    return file.getvalue()


def make(folder: str, size: float) -> int:
    """Write one fragment of so many bytes; returns its rows."""
    images = [photograph(number) for number in range(16)]
    rows = int(size / (sum(map(len, images)) / len(images)))
    schema = pa.schema([("jpg", pa.binary())])

    def batches() -> Iterator[pa.RecordBatch]:
        for first in range(0, rows, 16):
            some = images[: min(16, rows - first)]
            yield pa.record_batch([pa.array(some, pa.binary())], schema=schema)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    lance.write_dataset(reader, folder, max_rows_per_file=rows, max_bytes_per_file=1 << 40)
    return rows


def main() -> None:
    asked = bench.asked(__doc__, gigabytes=(0.3, 3.0))
    folder = tempfile.mkdtemp(prefix="laketag-bench-")
    try:
        rows = make(folder, asked.gigabytes * 1e9)
        figures: dict[str, object] = {"rows": rows, "fragments": len(lance.dataset(folder).get_fragments())}
        for tagger in ("null", "nsfw"):
            taken = peaks.run(RUN, folder, tagger, str(Path(__file__).parent))
            figures[f"{tagger}: worker's peak MB"] = taken.worker
            figures[f"{tagger}: driver's peak MB"] = taken.driver
        bench.finish("memory", figures, long=asked.long)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
