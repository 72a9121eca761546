"""The same photographs on each engine, start-up apart, beside two other programs.

python benchmarks/engines.py [--long] [--images 10000] [--few 900] [--others 2] [--rounds 3]

The model is nsfw. A worker with two cores is given all photographs, as are the other programs: the vendor
page's (Ray Data over fragments) and lance-ray's `add_columns`, with two workers each, as in `peers.py`, whose
environments they share. One worker of one core, and two of them, are given a few: they are compared with each
other. The photographs are dealt out to some rounds, in each of which every side has its turn.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import bars
import bench
import samples
from trials import CPU, PEERS, SECONDS, Peer, Round, photographed, ratio, told

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


def main() -> None:
    asked = bench.asked(__doc__, images=(120, 10_000), few=(0, 900), others=(0, 2), rounds=(1, 3))
    others = THEIRS[: asked.others]
    sides = [*ours(asked.images, asked.few), *((peer, asked.images) for peer in others)]
    for peer in others:
        peer.python()
    folder = Path(tempfile.mkdtemp(prefix="laketag-bench-"))
    try:
        rounds = photographed(sides, folder, samples.photographs(asked.images), asked.rounds)
    finally:
        shutil.rmtree(folder)
    figures: dict[str, Any] = {"images": asked.images, "few": asked.few, "rounds": asked.rounds}
    figures |= told(sides, rounds) | ratios(rounds, others, has_few=asked.few > 0)
    bench.finish("engines", figures, long=asked.long)
    bars.draw("engines", pictured(figures, [peer for peer, _ in sides]), long=asked.long)


def ratios(rounds: list[Round], others: list[Peer], *, has_few: bool) -> dict[str, Any]:
    """Compare workers, engines and programs, start-up taken off."""
    found = {}
    for engine in ENGINES:
        laketag = f"laketag {engine}"
        if has_few:
            found[f"ratio {engine}, 1 worker / 2 workers"] = ratio(
                rounds, f"{laketag}, 1 x 1", f"{laketag}, 2 x 1", SECONDS
            )
        for peer in others:
            for name, unit in (("seconds", SECONDS), ("CPU seconds", CPU)):
                found[f"ratio {peer.name} / {laketag}: {name}"] = ratio(
                    rounds, peer.name, f"{laketag}, {BOTH}", unit
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
