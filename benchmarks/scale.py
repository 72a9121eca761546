"""What a run costs from 10^3 to 10^6 rows and 1 to 10^4 fragments, from 1 KB to 4 MB an image.

python benchmarks/scale.py [--long]

A tagger that costs nothing labels rows in two commands: one stages, one commits. Beside them stands the
least that a commit can be: a bare column file for each fragment, and one Merge. Seconds of CPU count, since
they hardly tell what else the machine did. The long form takes some minutes and 1 GB of disk.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bars
import bench
import lance
import peaks
import pyarrow as pa

HERE = str(Path(__file__).parent)
SMALL = 20  # bytes of an image that is none


@dataclass(frozen=True)
class Case:
    """One point of the sweep."""

    rows: int
    fragments: int
    image_bytes: int = SMALL
    taggers: int = 1
    workers: int = 1

    def __str__(self) -> str:
        parts = [f"{self.rows:,} rows, {self.fragments:,} fragments"]
        parts += [f"{self.image_bytes:,} bytes an image"] * (self.image_bytes != SMALL)
        parts += [f"{self.taggers} taggers"] * (self.taggers > 1)
        parts += [f"{self.workers} workers"] * (self.workers > 1)
        return ", ".join(parts)


KB, MB = 1_000, 1_000_000
ROWS = [Case(1_000, 10), Case(10_000, 100), Case(100_000, 1_000), Case(1_000_000, 10_000)]
FRAGMENTS = [Case(100_000, fragments) for fragments in (1, 10, 100, 10_000)]
IMAGES = [Case(500 * MB // size, 4, size) for size in (KB, 32 * KB, 256 * KB, 4 * MB)]
OTHERS = [*(Case(100_000, 1_000, taggers=n) for n in (2, 4)), Case(100_000, 1_000, workers=2)]
LONG = [*ROWS, *FRAGMENTS, *IMAGES, *OTHERS]
SHORT = [Case(1_000, 10), Case(10_000, 100), Case(50_000, 500), Case(50_000, 1), Case(100, 2, MB)]


@dataclass(frozen=True)
class Length:
    """A tagger that costs nothing: the length of the bytes."""

    name: str
    version: str = "1"
    reads: tuple[str, ...] = ("bytes",)

    @property
    def columns(self) -> pa.Schema:
        return pa.schema([(f"{self.name.upper()}_BYTES", pa.int32())])

    def load(self, device: str) -> LengthModel:
        return LengthModel(self.columns)


@dataclass(frozen=True)
class LengthModel:
    columns: pa.Schema

    def prepare(self, row: Any) -> int:
        return len(row["bytes"])

    def predict(self, batch: list[int]) -> pa.RecordBatch:
        return pa.record_batch([pa.array(batch, pa.int32())], schema=self.columns)


TAG = """
import json, os, sys, time
folder, taggers, workers, here = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
sys.path.insert(0, here)
import laketag, scale

def run(**settings):
    before, started = os.times(), time.perf_counter()
    laketag.tag(
        folder,
        [scale.Length(f"length{n}") for n in range(taggers)],
        settings=laketag.TagSettings(**settings),
        engine=laketag.Local(workers=workers),
    )
    after, seconds = os.times(), time.perf_counter() - started
    driver, workers_ = (sum(after[i:i + 2]) - sum(before[i:i + 2]) for i in (0, 2))
    return {"wall": seconds, "driver": driver, "workers": workers_}

print(json.dumps({"stage": run(stage_only=True), "commit": run(commit_only=True), "nothing": run()}))
"""

# The least that a commit can be: a file for each fragment, four at a time, and one transaction.
BARE = """
import json, os, sys, time, uuid
from concurrent.futures import ThreadPoolExecutor
import lance, pyarrow as pa
from lance.file import LanceFileSession

folder, names = sys.argv[1], sys.argv[2].split(",")
schema = pa.schema([(name, pa.int32()) for name in names])
before, started = os.times(), time.perf_counter()
dataset = lance.dataset(folder)
fragments = [fragment.metadata for fragment in dataset.get_fragments()]
session = LanceFileSession(folder + "/data")

def write(fragment):
    name = uuid.uuid4().hex + ".lance"
    writer = session.open_writer(name, schema=schema, version=dataset.data_storage_version)
    column = pa.array(range(fragment.physical_rows), pa.int32())
    writer.write_batch(pa.record_batch([column] * len(names), schema=schema))
    writer.close()
    return name, writer.size_bytes

with ThreadPoolExecutor(4) as pool:
    files = list(pool.map(write, fragments))
nulls = lance.batch_udf(output_schema=schema)(
    lambda batch: pa.record_batch([pa.nulls(batch.num_rows, pa.int32())] * len(names), schema=schema)
)
_, extended = dataset.get_fragments()[0].merge_columns(nulls, columns=[])
ids = [extended.field(name).id() for name in names]
major, minor = map(int, dataset.data_storage_version.split("."))
for fragment, (name, size) in zip(fragments, files):
    fragment.files.append(lance.fragment.DataFile(name, ids, list(range(len(ids))), major, minor, size))
lance.LanceDataset.commit(
    folder, lance.Transaction(dataset.version, lance.LanceOperation.Merge(fragments, extended)), max_retries=0
)
after = os.times()
print(json.dumps({"wall": time.perf_counter() - started, "driver": sum(after[:2]) - sum(before[:2])}))
lance.dataset(folder).drop_columns(names)
"""


def make(folder: str, case: Case) -> None:
    """Write random images, a thousand of them over and over."""
    schema = pa.schema([("jpg", pa.binary())])
    per_fragment = case.rows // case.fragments
    some = max(1, min(per_fragment, 1_000, 64 * MB // case.image_bytes))
    images = pa.array([os.urandom(case.image_bytes) for _ in range(some)], pa.binary())

    def batches() -> Iterator[pa.RecordBatch]:
        for first in range(0, case.rows, some):
            yield pa.record_batch([images[: min(some, case.rows - first)]], schema=schema)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    lance.write_dataset(reader, folder, max_rows_per_file=per_fragment, max_bytes_per_file=1 << 40)


def measured(case: Case) -> dict[str, float]:
    """Tag a dataset of its own."""
    folder = tempfile.mkdtemp(prefix="laketag-bench-")
    try:
        make(folder, case)
        columns = [f"{part}{n}" for n in range(case.taggers) for part in ("label", "error", "digest")]
        bare = json.loads(peaks.run(BARE, folder, ",".join(columns)).said)
        taken = peaks.run(TAG, folder, str(case.taggers), str(case.workers), HERE)
        said = json.loads(taken.said)
        stage, commit, nothing = said["stage"], said["commit"], said["nothing"]
        committing = (
            commit["driver"] + commit["workers"]
        )  # many column files are made by processes of their own
        return {
            "worker, CPU us a row": stage["workers"] / case.rows * 1e6,
            "stage, seconds": stage["wall"],
            "stage, driver's CPU s": stage["driver"],
            "commit, seconds": commit["wall"],
            "commit, CPU s": committing,
            "commit, driver's CPU s": commit["driver"],
            "bare files and one commit, seconds": bare["wall"],
            "bare files and one commit, CPU s": bare["driver"],
            "ratio plan and commit / bare": (stage["driver"] + committing) / bare["driver"],
            "ratio commit / bare: seconds": commit["wall"] / bare["wall"],
            "nothing to do, CPU s": nothing["driver"],
            "driver's peak MB": taken.driver,
            "worker's peak MB": taken.worker,
            "manifest KB": max(file.stat().st_size for file in Path(folder, "_versions").iterdir()) / 1000,
        }
    finally:
        shutil.rmtree(folder)


def chart(found: Mapping[Case, Mapping[str, float]]) -> bars.Chart:
    """Show what grows with fragments, and that a row costs the same."""
    seconds, rows = {}, {}
    for case, one in found.items():
        if case == Case(case.rows, case.fragments):  # neither images, nor more taggers, nor more workers
            group = f"{case.rows:,} rows in {case.fragments:,}"
            laketag = one["stage, driver's CPU s"] + one["commit, CPU s"]
            seconds[group] = [laketag, one["bare files and one commit, CPU s"]]
            rows[group] = [one["worker, CPU us a row"], "reads no row"]
    return bars.Chart(
        "A million rows: what the driver and the workers take",
        ["laketag", "bare column files and one commit"],
        [bars.Panel("driver, CPU seconds", seconds), bars.Panel("worker, CPU microseconds a row", rows)],
    )


def main() -> None:
    asked = bench.asked(__doc__)
    found = {case: measured(case) for case in (LONG if asked.long else SHORT)}
    figures = {f"{case}: {name}": value for case, one in found.items() for name, value in one.items()}
    bench.finish("scale", figures, long=asked.long)
    bars.draw("scale", chart(found), long=asked.long)


if __name__ == "__main__":
    main()
