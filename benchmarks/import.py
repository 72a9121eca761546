"""Import of 100 KB images: copying against bare `write_fragments`, linking against two walks of the headers.

python benchmarks/import.py [--long] [--megabytes 500] [--members 100000] [--rounds 3]

All sides read the same tars, warm, with two workers each. The bare sides' workers wait for work already, so
what an import costs to start and to commit (an import of two tiny tars, each by a worker of its own) is
measured, too, and taken off. Seconds are those of the clock and those of all cores: these hardly change with
what else the machine does. The bare writer has all its images in memory; beside it, what it takes where it
has the same 4 MB again and again. The bare walk is a loop that believes all it reads: a step from size to
size. Beside it stands Python's own, `tarfile`, which reads names and sums as an import must. A bare walk of
10,000 headers takes 14 ms: what linking costs is seen with many small members, too. Ray's side is run where
pandas, which it needs, is there (`make test` puts it beside); without its start.
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
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import bench
import lance
import pyarrow as pa

import laketag
from laketag.shards import plan

IMAGE, SMALL, SHARDS, WORKERS = 100_000, 1000, 8, 2
BATCH = 40
SCHEMA = pa.schema([pa.field("jpg", pa.binary(), metadata={"lance-encoding:compression": "none"})])
RATIOS = (
    ("bare write_fragments", "import"),
    ("bare write_fragments of the same 4 MB", "import"),
    ("bare header walk", "import --link"),
    ("tarfile's walk", "import --link"),
    ("bare header walk, small members", "import --link, small members"),
    ("tarfile's walk, small members", "import --link, small members"),
)
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


def walk_with_tarfile(tars: list[str]) -> int:
    """Walk the members of tars as Python's standard library does."""
    found = 0
    for tar in tars:
        with tarfile.open(tar, "r:") as members:
            found += sum(1 for _ in members)
    return found


def cpu_seconds(fn: Callable[..., Any], *arguments: Any) -> float:
    """Do something, and tell the CPU seconds that it took this process."""
    started = time.process_time()
    fn(*arguments)
    return time.process_time() - started


def in_two(pool: ProcessPoolExecutor, fn: Callable[..., Any], *arguments: tuple[Any, ...]) -> float:
    """Run both halves of a side at once; tells their CPU seconds."""
    halves = [pool.submit(cpu_seconds, fn, *each) for each in arguments]
    return sum(half.result() for half in halves)


def imported(tars: list[str], to: str, *, link: bool = False) -> float:
    """Import; the workers end with it, so that what they take is counted with this process."""
    settings = laketag.ImportSettings(link=link)
    laketag.import_(tars, to, engine=laketag.Local(WORKERS), settings=settings)
    return 0.0


def started_and_committed(tiny: list[str], to: str) -> float:
    """Import two tiny tars, each by a worker of its own as large ones are."""
    with patch.object(plan, "TASK_BYTES", 1):
        return imported(tiny, to)


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
    for unit, at in (("seconds", 0), ("CPU seconds", 1)):
        figures |= compared({name: both[at] for name, both in taken.items()}, unit)
    if (PANDAS / "pandas").is_dir():
        figures["Ray's read_webdataset into Lance: seconds"] = beside_ray(folder, tars)
    shutil.rmtree(folder)
    bench.finish("import", figures, long=asked.long)


def compared(taken: dict[str, float], unit: str) -> dict[str, float]:
    """Hold each import, less its start-up, against the bare sides."""
    start = taken["import of two tiny tars"]
    less = {name: value - (start if name.startswith("import") else 0.0) for name, value in taken.items()}
    figures = {f"{name}: {unit}": value for name, value in taken.items()}
    beside = "" if unit == "seconds" else f" in {unit},"
    for bare, ours in RATIOS:
        figures[f"ratio{beside} {bare} / {ours} less start-up"] = less[bare] / less[ours]
    return figures


def sides(
    pool: ProcessPoolExecutor, tars: list[str], small: list[str], tiny: list[str]
) -> dict[str, Callable[[str], float]]:
    """Name what is measured; each side is given a place of its own, and tells what the pool took for it."""
    workers = range(WORKERS)

    def write(to: str, different: int) -> float:
        return in_two(pool, bare_write, *((f"{to}-{half}", different) for half in workers))

    def in_halves(fn: Callable[[list[str]], int], some: list[str]) -> float:
        return in_two(pool, fn, *((some[half::WORKERS],) for half in workers))

    return {
        "bare write_fragments": lambda to: write(to, 1_000_000),
        "bare write_fragments of the same 4 MB": lambda to: write(to, 1),
        "import of two tiny tars": lambda to: started_and_committed(tiny, to),
        "import": lambda to: imported(tars, to),
        "bare header walk": lambda to: in_halves(walk, tars),
        "tarfile's walk": lambda to: in_halves(walk_with_tarfile, tars),
        "import --link": lambda to: imported(tars, to, link=True),
        "bare header walk, small members": lambda to: in_halves(walk, small),
        "tarfile's walk, small members": lambda to: in_halves(walk_with_tarfile, small),
        "import --link, small members": lambda to: imported(small, to, link=True),
    }


def beside_ray(folder: Path, tars: list[str]) -> float:
    """Let Ray import the same tars, in a process that finds pandas."""
    program = [sys.executable, str(Path(__file__).with_name("import_ray.py")), str(folder), *tars]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PANDAS), *sys.path])}
    done = subprocess.run(program, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def measured(
    folder: Path, sides: dict[str, Callable[[str], float]], rounds: int
) -> dict[str, tuple[float, float]]:
    """Time all sides in turn, in seconds and CPU seconds; a first round, which is not counted, warms up."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for side, (name, run) in enumerate(sides.items()):
            to = str(folder / f"{number}-{side}")
            in_pool: list[float] = []
            cost = bench.cost(partial(_noted, in_pool, run, to))
            if number:
                taken[name].append((cost.wall, cost.cpu + sum(in_pool)))
            for made in folder.glob(f"{number}-{side}*"):
                shutil.rmtree(made)
    return {
        name: (statistics.median(each[0] for each in both), statistics.median(each[1] for each in both))
        for name, both in taken.items()
    }


def _noted(found: list[float], run: Callable[[str], float], to: str) -> None:
    found.append(run(to))


if __name__ == "__main__":
    main()
