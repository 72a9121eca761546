"""Import of 100 KB images: copying against bare `write_fragments`, linking against a bare header walk.

python benchmarks/import.py [--long] [--megabytes 500] [--rounds 3]

All sides read the same tars, warm, with two workers each. The bare sides' workers wait for work already, so
what an import costs to start and to commit (an import of two tiny tars) is measured, too, and taken off. The
bare writer has the images in memory.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import bench
import lance
import pyarrow as pa

import laketag

IMAGE, SHARDS, WORKERS = 100_000, 8, 2


def make(folder: Path, size: float) -> list[str]:
    """Write shards of random bytes, with a JSON each."""
    tars = []
    for shard in range(SHARDS):
        tars.append(str(folder / f"{shard:03d}.tar"))
        with tarfile.open(tars[-1], "w") as tar:
            for sample in range(int(size / IMAGE / SHARDS)):
                for name, body in (("jpg", os.urandom(IMAGE)), ("json", b'{"n": %d}' % sample)):
                    info = tarfile.TarInfo(f"{shard}-{sample}.{name}")
                    info.size = len(body)
                    tar.addfile(info, BytesIO(body))
    return tars


def bare_write(folder: str, images: int) -> None:
    """Write images that are in memory."""
    schema = pa.schema([pa.field("jpg", pa.binary(), metadata={"lance-encoding:compression": "none"})])
    batch = pa.record_batch([pa.array([os.urandom(IMAGE) for _ in range(40)], pa.binary())], schema=schema)

    def batches() -> Iterator[pa.RecordBatch]:
        for _ in range(images // 40):
            yield batch

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    lance.fragment.write_fragments(reader, folder, schema=schema, mode="create")


def walk(tars: list[str]) -> int:
    """Walk the headers of tars and nothing else: 512 bytes, then a step over the body."""
    found = 0
    for tar in tars:
        with open(tar, "rb") as file:
            while (header := file.read(512)) and header[0]:
                file.seek(-(-int(header[124:135], 8) // 512) * 512, os.SEEK_CUR)
                found += 1
    return found


def in_two(pool: ProcessPoolExecutor, fn: Callable[..., Any], *arguments: tuple[Any, ...]) -> None:
    """Run both halves of a side at once."""
    for done in [pool.submit(fn, *each) for each in arguments]:
        done.result()


def main() -> None:
    asked = bench.asked(__doc__, megabytes=(100.0, 500.0), rounds=(1, 3))
    folder = Path(tempfile.mkdtemp())
    tars = make(folder, asked.megabytes * 1e6)
    (folder / "tiny").mkdir()
    tiny = make(folder / "tiny", SHARDS * IMAGE)[:WORKERS]
    images = int(asked.megabytes * 1e6 / IMAGE / WORKERS)
    engine, linked = laketag.Local(WORKERS), laketag.ImportSettings(link=True)
    spawn = multiprocessing.get_context("spawn")  # Lance does not survive a fork
    with ProcessPoolExecutor(WORKERS, mp_context=spawn) as pool:
        sides: dict[str, Callable[[str], object]] = {
            "bare write_fragments": lambda to: in_two(
                pool, bare_write, *((f"{to}-{half}", images) for half in range(WORKERS))
            ),
            "import of two tiny tars": lambda to: laketag.import_(tiny, to, engine=engine),
            "import": lambda to: laketag.import_(tars, to, engine=engine),
            "bare header walk": lambda to: in_two(
                pool, walk, *((tars[half::WORKERS],) for half in range(WORKERS))
            ),
            "import --link": lambda to: laketag.import_(tars, to, engine=engine, settings=linked),
        }
        taken = measured(folder, sides, asked.rounds)
    shutil.rmtree(folder)
    figures: dict[str, Any] = {"megabytes": asked.megabytes, "images": images * WORKERS}
    figures |= {f"{name}: seconds": value for name, value in taken.items()}
    start = taken["import of two tiny tars"]
    copying, linking = taken["import"] - start, taken["import --link"] - start
    figures["ratio bare write_fragments / import less start-up"] = taken["bare write_fragments"] / copying
    figures["ratio bare header walk / import --link less start-up"] = taken["bare header walk"] / linking
    bench.finish("import", figures, long=asked.long)


def measured(folder: Path, sides: dict[str, Callable[[str], object]], rounds: int) -> dict[str, float]:
    """Time all sides in turn, some rounds; a first round, which is not counted, warms every side up."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for side, (name, run) in enumerate(sides.items()):
            to = str(folder / f"{number}-{side}")
            started = time.perf_counter()
            run(to)
            if number:
                taken[name].append(time.perf_counter() - started)
            for made in folder.glob(f"{number}-{side}*"):
                shutil.rmtree(made)
    return {name: statistics.median(times) for name, times in taken.items()}


if __name__ == "__main__":
    main()
