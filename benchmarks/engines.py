"""nsfw on each engine: what an engine takes to start, and what a second worker gives.

python benchmarks/engines.py [--long] [--images 1000] [--fewest 1] [--rounds 2]

A worker has one core. The photographs are dealt out to some rounds, in each of which every side has its
turn. What each engine takes for the same 10,000 photographs beside other programs is in `peers.py`, where all
are measured in one run.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import bars
import bench
import samples
from trials import ENGINES, RATE, SECONDS, START, Peer, photographed, ratio, told


def main() -> None:
    asked = bench.asked(__doc__, images=(120, 1000), fewest=(2, 1), rounds=(1, 2))
    counts = range(asked.fewest, 3)
    sides = [
        Peer(_name(engine, workers), "laketag_tag", arguments=(engine, str(workers), str(workers)))
        for engine in ENGINES
        for workers in counts
    ]
    folder = Path(tempfile.mkdtemp(prefix="laketag-bench-"))
    try:
        rounds = photographed(sides, folder, samples.photographs(asked.images), asked.rounds)
    finally:
        shutil.rmtree(folder)
    figures: dict[str, Any] = {"images": asked.images, "rounds": asked.rounds}
    figures |= told(sides, rounds, asked.images)
    for engine in ENGINES if len(counts) > 1 else ():
        one, two = (_name(engine, workers) for workers in counts)
        figures[f"ratio {engine}, 1 worker / 2 workers"] = ratio(rounds, one, two, SECONDS)
    bench.finish("engines", figures, long=asked.long)
    bars.draw("engines", pictured(figures, [side.name for side in sides]), long=asked.long)


def _name(engine: str, workers: int) -> str:
    return f"{engine}, {workers} worker{'s' if workers > 1 else ''}"


def pictured(figures: dict[str, Any], names: list[str]) -> bars.Chart:
    """Show images a second, and start-up."""
    panels = [
        bars.Panel(title, {name: [figures[f"{name}: nsfw: {key}"]] for name in names})
        for title, key in (("images/s, start-up apart", RATE), ("start-up, seconds", START))
    ]
    return bars.Chart(f"nsfw on {figures['images']:,} photographs, workers of one core", ("nsfw",), panels)


if __name__ == "__main__":
    main()
