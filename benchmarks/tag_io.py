"""What tagging costs beside the model: a null tagger over raw bytes against a bare scan and `cat`.

python benchmarks/tag_io.py [--long] [--gigabytes 1.0]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import bench
import lance
import pyarrow as pa

import laketag

IMAGE_BYTES = 100_000
NULL = pa.schema([("NULL_LENGTH", pa.int32())])


@dataclass(frozen=True)
class Null:
    """A tagger that costs nothing: the length of the bytes."""

    version: str = "1"
    batch_size: int = 64
    name: ClassVar[str] = "null"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = NULL

    def load(self, device: str) -> NullModel:
        return NullModel()


class NullModel:
    def prepare(self, row: Any) -> int:
        return len(row["bytes"])

    def predict(self, batch: list[int]) -> pa.RecordBatch:
        return pa.record_batch([pa.array(batch, pa.int32())], schema=NULL)


def make(folder: str, rows: int, fragments: int) -> int:
    """Write images of random bytes; returns the image bytes."""
    schema = pa.schema([("jpg", pa.binary()), ("number", pa.int64())])

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, rows, 100):
            numbers = range(start, min(start + 100, rows))
            images = [os.urandom(IMAGE_BYTES) for _ in numbers]
            yield pa.record_batch([pa.array(images, pa.binary()), pa.array(numbers)], schema=schema)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    lance.write_dataset(reader, folder, max_rows_per_file=-(-rows // fragments), enable_stable_row_ids=True)
    return rows * IMAGE_BYTES


SCAN = """
import sys, time, lance
dataset = lance.dataset(sys.argv[1])
started = time.perf_counter()
for _ in dataset.scanner(columns=["jpg"], batch_size=64, with_row_address=True).to_batches():
    pass
print(time.perf_counter() - started)
"""


def scan(folder: str) -> float:
    """Scan in a process of its own, with memory as fresh as a worker's; returns seconds, imports apart."""
    return float(subprocess.run([sys.executable, "-c", SCAN, folder], check=True, capture_output=True).stdout)


def cat(folder: str) -> None:
    files = [str(file) for file in Path(folder, "data").glob("*.lance")]
    subprocess.run(["cat", *files], stdout=subprocess.DEVNULL, check=True)


def tag(folder: str, *, where: str | None = None) -> laketag.TagReport:
    return laketag.tag(folder, [Null()], rows=laketag.Rows(where=where))


def fresh(folder: str) -> None:
    """Take the labels away again, so that the next repeat has all to do."""
    lance.dataset(folder).drop_columns(["NULL_LENGTH", "NULL_ERROR", "NULL_DIGEST"])


def main() -> None:
    asked = bench.asked(__doc__, gigabytes=(0.3, 1.0), repeats=(1, 3))
    rows = int(asked.gigabytes * 1e9 / IMAGE_BYTES)
    folder = tempfile.mkdtemp(prefix="laketag-bench-")
    small = tempfile.mkdtemp(prefix="laketag-bench-")
    try:
        image_bytes = make(folder, rows, fragments=4)
        make(small, 1, fragments=1)
        start_up = bench.seconds(lambda: (tag(small), fresh(small)), asked.repeats)
        cat(folder), scan(folder)  # warm
        tags, scans, cats, reports = [], [], [], []
        for _ in range(asked.repeats):
            cats.append(bench.seconds(lambda: cat(folder), 1))
            scans.append(scan(folder))
            started = time.perf_counter()
            reports.append(tag(folder))
            tags.append(time.perf_counter() - started)
            fresh(folder)
        some = tag(folder, where="number % 10 = 0")
        report = reports[-1]
        labels = rows * (4 + 8)
        median = sorted(tags)[len(tags) // 2]
        scanned = sorted(scans)[len(scans) // 2]
        bench.finish(
            "tag_io",
            {
                "image bytes": image_bytes,
                "cat seconds": sorted(cats)[len(cats) // 2],
                "bare scan seconds": scanned,
                "tag seconds": median,
                "tag start-up seconds (1 row)": start_up,
                "ratio tag less start-up / bare scan": (median - start_up) / scanned,
                "ratio bytes read / image bytes": report.bytes_read / image_bytes,
                "ratio bytes read / image bytes asked for, where 10 %": some.bytes_read
                / (some.computed * IMAGE_BYTES),
                "bytes written": report.bytes_written,
                "bytes written allowed (2 x labels + 200 KB + 500 a fragment)": 2 * labels
                + 200_000
                + 500 * 4,
            },
            long=asked.long,
        )
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(small)


if __name__ == "__main__":
    main()
