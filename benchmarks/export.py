"""Export of a selection against programs that rewrite the same tars: images a second, and bytes.

python benchmarks/export.py [--long] [--megabytes 300] [--rounds 3]

The programs read tars, add a label to the JSON and write tars: with Python's `tarfile`, and with webdataset's
reader and `ShardWriter`. Each does nothing else, in one process; the export is one worker's. For Parquet the
other side reads the tars and writes with pyarrow. Images are 100 KB of random bytes; all is warm. What an
export costs to start (one of a single row), modules that it reads included, is measured too. Ratios
of seconds over 1, and of bytes under 1, are in favour of laketag.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import bench
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset

import laketag

IMAGE, PER_SHARD = 100_000, 500
TENTH = 10
Sample = dict[str, bytes]


def make(folder: Path, images: int) -> list[str]:
    """Write shards of random bytes, with a JSON and a caption each."""
    random, tars = Random(0), []
    for first in range(0, images, PER_SHARD):
        tars.append(str(folder / f"{first // PER_SHARD:03d}.tar"))
        with tarfile.open(tars[-1], "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(first, min(first + PER_SHARD, images)):
                members = {"jpg": random.randbytes(IMAGE), "txt": b"a photograph of something"}
                members["json"] = json.dumps({"n": number, "width": 640, "height": 480}).encode()
                put(tar, f"{number:09d}", members)
    return tars


def put(tar: tarfile.TarFile, key: str, members: Sample) -> None:
    """Add a sample to a tar."""
    for extension, body in members.items():
        info = tarfile.TarInfo(f"{key}.{extension}")
        info.size = len(body)
        tar.addfile(info, BytesIO(body))


def samples(tars: list[str]) -> Iterator[tuple[str, Sample]]:
    """Read samples as a short program does."""
    for path in tars:
        with tarfile.open(path, "r|") as tar:
            key, members = "", Sample()
            for info in tar:
                stem, _, extension = info.name.partition(".")
                if stem != key:
                    if members:
                        yield key, members
                    key, members = stem, {}
                body = tar.extractfile(info)
                assert body is not None
                members[extension] = body.read()
            yield key, members


def labelled(text: bytes) -> tuple[bytes, int]:
    """Add the label to a JSON; gives its number beside it."""
    facts = json.loads(text)
    return json.dumps(facts | {"SCORE": facts["n"] * 0.5}).encode(), facts["n"]


def with_tarfile(tars: list[str], to: Path, every: int = 1) -> None:
    """Rewrite tars with nothing but Python."""
    for path in tars:
        with tarfile.open(to / Path(path).name, "w", format=tarfile.USTAR_FORMAT) as tar:
            for key, members in samples([path]):
                members["json"], number = labelled(members["json"])
                if number % every == 0:
                    put(tar, key, members)


def with_webdataset(tars: list[str], to: Path) -> None:
    """Rewrite tars with webdataset."""
    with webdataset.ShardWriter(str(to / "%06d.tar"), maxcount=PER_SHARD, verbose=0) as writer:
        for sample in webdataset.WebDataset(tars, shardshuffle=False):
            kept = {name: value for name, value in sample.items() if name in ("__key__", "jpg", "txt")}
            writer.write(kept | {"json": labelled(sample["json"])[0]})


def with_pyarrow(tars: list[str], to: Path) -> None:
    """Write samples as Parquet files, as large as the shards."""
    for path in tars:
        rows = [
            {"key": key, "jpg": members["jpg"], "txt": members["txt"].decode(), **json.loads(members["json"])}
            for key, members in samples([path])
        ]
        table = pa.Table.from_pylist([row | {"SCORE": row["n"] * 0.5} for row in rows])
        pq.write_table(
            table, to / f"{Path(path).stem}.parquet", compression={"jpg": "none"}, use_dictionary=False
        )


def exported(uri: str, ending: str, where: str | None = None) -> Callable[[Path], object]:
    """Make a side of an export."""
    settings = laketag.ExportSettings(where=where, samples_per_shard=PER_SHARD)
    return lambda to: laketag.export(uri, f"{to}/{{000000..}}.{ending}", settings=settings)


def bytes_read() -> int:
    """Say what this process, and those that it started and that ended, have read."""
    facts = Path("/proc/self/io").read_text()
    return int(facts.partition("rchar: ")[2].split()[0])


def measured(folder: Path, sides: dict[str, Callable[[Path], object]], rounds: int) -> dict[str, Any]:
    """Run all sides in turn, some rounds; a first round, which is not counted, warms every side up."""
    found: dict[str, Any] = {}
    costs: dict[str, list[bench.Cost]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            to = folder / "out"
            to.mkdir()
            before = bytes_read()
            cost = bench.cost(lambda run=run, to=to: run(to))
            if number:
                costs[name].append(cost)
            found[f"{name}: bytes read"] = bytes_read() - before
            found[f"{name}: bytes written"] = sum(
                each.stat().st_size for each in to.iterdir() if each.is_file()
            )
            shutil.rmtree(to)
    for name, taken in costs.items():
        found[f"{name}: seconds"] = statistics.median(each.wall for each in taken)
        found[f"{name}: CPU seconds"] = statistics.median(each.cpu for each in taken)
    return found


def compare(figures: dict[str, Any], ours: str, theirs: str) -> None:
    """Add the ratios of two sides; the export's start is taken off of CPU seconds and bytes read."""
    figures[f"ratio in seconds, {theirs} / {ours}, its start included"] = (
        figures[f"{theirs}: seconds"] / figures[f"{ours}: seconds"]
    )
    spent = figures[f"{ours}: CPU seconds"] - figures["export of one row: CPU seconds"]
    figures[f"ratio in CPU seconds, {theirs} / {ours}"] = figures[f"{theirs}: CPU seconds"] / spent
    read = figures[f"{ours}: bytes read"] - figures["export of one row: bytes read"]
    figures[f"ratio of bytes read, {ours} / {theirs}"] = read / figures[f"{theirs}: bytes read"]
    written = figures[f"{ours}: bytes written"]
    figures[f"ratio of bytes written, {ours} / {theirs}"] = written / figures[f"{theirs}: bytes written"]


def main() -> None:
    asked = bench.asked(__doc__, megabytes=(100.0, 300.0), rounds=(1, 3))
    folder = Path(tempfile.mkdtemp())
    images = int(asked.megabytes * 1e6 / IMAGE)
    tars, uri = make(folder, images), str(folder / "photos.lance")
    laketag.import_(tars, uri)
    laketag.add_column(uri, "SCORE", "n * 0.5")
    sides: dict[str, Callable[[Path], object]] = {
        "export of one row": exported(uri, "tar", "n = 0"),
        "export": exported(uri, "tar"),
        "tarfile": lambda to: with_tarfile(tars, to),
        "webdataset": lambda to: with_webdataset(tars, to),
        "export of a tenth": exported(uri, "tar", f"n % {TENTH} = 0"),
        "tarfile, a tenth": lambda to: with_tarfile(tars, to, TENTH),
        "export as Parquet": exported(uri, "parquet"),
        "pyarrow": lambda to: with_pyarrow(tars, to),
    }
    figures = {"megabytes": asked.megabytes, "images": images} | measured(folder, sides, asked.rounds)
    shutil.rmtree(folder)
    compare(figures, "export", "tarfile")
    compare(figures, "export", "webdataset")
    compare(figures, "export of a tenth", "tarfile, a tenth")
    compare(figures, "export as Parquet", "pyarrow")
    for name in ("export", "tarfile", "webdataset", "export as Parquet"):
        figures[f"{name}: images a second"] = images / figures[f"{name}: seconds"]
    bench.finish("export", figures, long=asked.long)


if __name__ == "__main__":
    main()
