"""Import of 100 KB images: copying against bare `write_fragments`, linking against a bare header walk.

python benchmarks/import.py [--long] [--megabytes 500] [--members 100000] [--rounds 3]

All sides read the same tars, warm, with two workers each. The bare sides' workers wait for work already, so
what an import costs to start and to commit (an import of two tiny tars) is measured, too, and taken off. The
bare writer has all its images in memory; beside it, what it takes where it has the same 4 MB again and again.
A walk of 10,000 headers takes 14 ms: what linking costs is seen with many small members, too. Ray's side is
run where pandas, which it needs, is there (`make test` puts it beside); without its start.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import bench
import lance
import pyarrow as pa

import laketag

IMAGE, SMALL, SHARDS, WORKERS = 100_000, 1000, 8, 2
BATCH = 40
SCHEMA = pa.schema([pa.field("jpg", pa.binary(), metadata={"lance-encoding:compression": "none"})])
PANDAS = Path(sys.prefix, "pandas")
in_memory: list[pa.RecordBatch] = []


def make(folder: Path, size: float, image: int = IMAGE) -> list[str]:
    """Write shards of random bytes, with a JSON each."""
    folder.mkdir(exist_ok=True)
    tars = []
    for shard in range(SHARDS):
        tars.append(str(folder / f"{shard:03d}.tar"))
        with tarfile.open(tars[-1], "w") as tar:
            for sample in range(int(size / image / SHARDS)):
                for name, body in (("jpg", os.urandom(image)), ("json", b'{"n": %d}' % sample)):
                    info = tarfile.TarInfo(f"{shard}-{sample}.{name}")
                    info.size = len(body)
                    tar.addfile(info, BytesIO(body))
    return tars


def hold(images: int) -> None:
    """Make a worker hold images in memory."""
    for _ in range(images // BATCH):
        bodies = [os.urandom(IMAGE) for _ in range(BATCH)]
        in_memory.append(pa.record_batch([pa.array(bodies, pa.binary())], schema=SCHEMA))


def bare_write(folder: str, different: int) -> None:
    """Write as much as is in memory, of which only so many batches are different ones."""
    batches = (in_memory[number % different] for number in range(len(in_memory)))
    reader = pa.RecordBatchReader.from_batches(SCHEMA, batches)
    lance.fragment.write_fragments(reader, folder, schema=SCHEMA, mode="create")


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
    asked = bench.asked(__doc__, megabytes=(100.0, 500.0), members=(40_000, 100_000), rounds=(1, 3))
    folder = Path(tempfile.mkdtemp())
    tars = make(folder / "large", asked.megabytes * 1e6)
    small = make(folder / "small", asked.members / 2 * SMALL, SMALL)
    tiny = make(folder / "tiny", SHARDS * IMAGE)[:WORKERS]
    images = int(asked.megabytes * 1e6 / IMAGE / WORKERS)
    spawn = multiprocessing.get_context("spawn")  # Lance does not survive a fork
    with ProcessPoolExecutor(WORKERS, spawn, hold, (images,)) as pool:
        taken = measured(folder, sides(pool, tars, small, tiny), asked.rounds)
    figures: dict[str, Any] = {"megabytes": asked.megabytes, "small members": asked.members}
    figures |= {f"{name}: seconds": value for name, value in taken.items()}
    start = taken["import of two tiny tars"]
    for bare, ours in (
        ("bare write_fragments", "import"),
        ("bare write_fragments of the same 4 MB", "import"),
        ("bare header walk", "import --link"),
        ("bare header walk, small members", "import --link, small members"),
    ):
        figures[f"ratio {bare} / {ours} less start-up"] = taken[bare] / (taken[ours] - start)
    for name in ("bare header walk, small members", "import --link, small members"):
        less = start if "link" in name else 0.0
        figures[f"{name}: microseconds a member, of each worker"] = (
            (taken[name] - less) * 1e6 * WORKERS / asked.members
        )
    if (PANDAS / "pandas").is_dir():
        figures["Ray's read_webdataset into Lance: seconds"] = beside_ray(folder, tars)
    shutil.rmtree(folder)
    bench.finish("import", figures, long=asked.long)


def sides(
    pool: ProcessPoolExecutor, tars: list[str], small: list[str], tiny: list[str]
) -> dict[str, Callable[[str], object]]:
    """Name what is measured; each side is given a place of its own."""
    engine, linked = laketag.Local(WORKERS), laketag.ImportSettings(link=True)
    workers = range(WORKERS)

    def write(to: str, different: int) -> None:
        in_two(pool, bare_write, *((f"{to}-{half}", different) for half in workers))

    def walk_all(some: list[str]) -> None:
        in_two(pool, walk, *((some[half::WORKERS],) for half in workers))

    return {
        "bare write_fragments": lambda to: write(to, 1_000_000),
        "bare write_fragments of the same 4 MB": lambda to: write(to, 1),
        "import of two tiny tars": lambda to: laketag.import_(tiny, to, engine=engine),
        "import": lambda to: laketag.import_(tars, to, engine=engine),
        "bare header walk": lambda to: walk_all(tars),
        "import --link": lambda to: laketag.import_(tars, to, engine=engine, settings=linked),
        "bare header walk, small members": lambda to: walk_all(small),
        "import --link, small members": lambda to: laketag.import_(small, to, engine=engine, settings=linked),
    }


def beside_ray(folder: Path, tars: list[str]) -> float:
    """Let Ray import the same tars, in a process that finds pandas."""
    program = [sys.executable, str(Path(__file__).with_name("import_ray.py")), str(folder), *tars]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PANDAS), *sys.path])}
    done = subprocess.run(program, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


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
