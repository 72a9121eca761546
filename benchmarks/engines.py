"""The same photographs on each engine, start-up apart, beside two other programs.

python benchmarks/engines.py [--long] [--images 10000] [--few 1500] [--others 2] [--rounds 1]

The model is nsfw. A worker with two cores is given all photographs, as are the other programs: the vendor
page's (Ray Data over fragments) and lance-ray's `add_columns`, with two workers each, as in `peers.py`, whose
environments they share. One worker of one core, and two of them, are given a few: they are compared with each
other, by images a second.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import bars
import bench
import samples
from trials import PEERS, Peer, photographed

ENGINES = ("local", "ray", "spark")
BOTH = "1 x 2"
"""Workers, and cores of each."""
THEIRS = [peer for peer in PEERS if peer.name in ("vendor's page", "lance-ray")]


def ours(images: int, few: int) -> list[tuple[Peer, int]]:
    """Give laketag on each engine, with workers and cores, and how many photographs each is given."""
    return [
        (Peer(f"laketag {engine}, {name}", "laketag_tag", arguments=(engine, workers, cores)), given)
        for engine in ENGINES
        for name, workers, cores, given in (
            (BOTH, "1", "2", images),
            ("1 x 1", "1", "1", few),
            ("2 x 1", "2", "2", few),
        )
        if given
    ]


def one_round(folder: Path, sides: list[tuple[Peer, int]], photographs: list[bytes]) -> dict[str, Any]:
    """Time every side once, one after the other."""
    found: dict[str, Any] = {}
    for peer, given in sides:
        found |= photographed(peer, folder, photographs[:given])
    return found


def main() -> None:
    asked = bench.asked(__doc__, images=(120, 10_000), few=(0, 1500), others=(0, 2), rounds=(1, 1))
    others = THEIRS[: asked.others]
    sides = [*ours(asked.images, asked.few), *((peer, asked.images) for peer in others)]
    for peer in others:
        peer.python()
    folder = Path(tempfile.mkdtemp(prefix="laketag-bench-"))
    try:
        photographs = samples.photographs(asked.images)
        rounds = [one_round(folder, sides, photographs) for _ in range(asked.rounds)]
    finally:
        shutil.rmtree(folder)
    figures: dict[str, Any] = {"images": asked.images, "few": asked.few, "rounds": asked.rounds}
    figures |= {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    figures |= ratios(figures, others)
    bench.finish("engines", figures, long=asked.long)
    bars.draw("engines", pictured(figures, [peer for peer, _ in sides]), long=asked.long)


def ratios(figures: dict[str, Any], others: list[Peer]) -> dict[str, float]:
    """Compare workers, engines and programs, start-up taken off."""

    def taken(name: str, unit: str) -> float:
        return float(figures[f"{name}: nsfw: {unit} less start-up"])

    found = {}
    for engine in ENGINES:
        one, two = (figures.get(f"laketag {engine}, {name}: nsfw: images/s") for name in ("1 x 1", "2 x 1"))
        if one:
            found[f"ratio {engine}, 1 worker / 2 workers"] = two / one  # of the seconds for an image
        for peer in others:
            for unit in ("seconds", "CPU seconds"):
                found[f"ratio {peer.name} / laketag {engine}: {unit}"] = taken(peer.name, unit) / taken(
                    f"laketag {engine}, {BOTH}", unit
                )
    return found


def pictured(figures: dict[str, Any], peers: list[Peer]) -> bars.Chart:
    """Show images a second, and start-up."""
    names = [peer.name for peer in peers]
    panels = [
        bars.Panel(title, {name: [figures[f"{name}: nsfw: {key}"]] for name in names})
        for title, key in (
            ("images/s, start-up apart", "images/s"),
            ("start-up, seconds", "start-up seconds"),
        )
    ]
    return bars.Chart(f"nsfw on {figures['images']:,} photographs, by engine and workers", ("nsfw",), panels)


if __name__ == "__main__":
    main()
