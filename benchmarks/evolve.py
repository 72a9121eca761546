"""What the schema's evolution costs beside 1 GB of images: seconds and bytes written of each command.

python benchmarks/evolve.py [--long] [--gigabytes 1.0]
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bench
import lance
import pyarrow as pa

import laketag

IMAGE = 100_000
TAG = """case when SCORE > 7.1 then 'very aesthetic' when SCORE > 5.5 then 'aesthetic'
    when SCORE > 3.7 then 'displeasing' else 'very displeasing' end"""


def make(folder: str, size: float) -> int:
    """Write a dataset of so many bytes of images, with a score; returns its rows."""
    rows = int(size / IMAGE) // 100 * 100
    schema = pa.schema([("jpg", pa.large_binary()), ("SCORE", pa.float32())])

    def batches() -> Iterator[pa.RecordBatch]:
        for first in range(0, rows, 100):
            images = pa.array([os.urandom(IMAGE) for _ in range(100)], pa.large_binary())
            scores = pa.array([number * 7 % 1000 / 100 for number in range(first, first + 100)], pa.float32())
            yield pa.record_batch([images, scores], schema=schema)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    lance.write_dataset(reader, folder, max_rows_per_file=1000, enable_stable_row_ids=True)
    return rows


def stored(folder: str) -> int:
    """Count the bytes of all files of a dataset."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def main() -> None:
    asked = bench.asked(__doc__, gigabytes=(0.3, 1.0))
    size = asked.gigabytes * 1e9
    folder = tempfile.mkdtemp()
    uri = f"{folder}/images.lance"
    rows = make(uri, size)
    again = TAG.replace("5.5", "6.5")
    steps: dict[str, Callable[[], object]] = {
        "add-column, tags by CASE": lambda: laketag.add_column(uri, "TAG", TAG),
        "add-column, a window": lambda: laketag.add_column(uri, "RANK", "rank() over (order by SCORE)"),
        "add-column --replace, tags again": lambda: laketag.add_column(uri, "TAG", again, replace=True),
        "rename-column": lambda: laketag.rename_column(uri, "RANK", "PLACE"),
        "cast-column": lambda: laketag.cast_column(uri, "SCORE", "float64"),
        "index": lambda: laketag.index(uri, "TAG"),
        "diff": lambda: laketag.diff(uri, 2, 5),
        "drop-column": lambda: laketag.drop_column(uri, "PLACE"),
        "restore": lambda: laketag.restore(uri, 1),
    }
    figures: dict[str, int | float] = {"rows": rows, "bytes of images": rows * IMAGE}
    for name, step in steps.items():
        before, started = stored(uri), time.perf_counter()
        step()
        figures[f"{name}: seconds"] = time.perf_counter() - started
        figures[f"{name}: bytes written"] = stored(uri) - before
    shutil.rmtree(folder)
    bench.finish("evolve", figures, long=asked.long)


if __name__ == "__main__":
    main()
