"""Other ways to add a label column to a Lance dataset, against laketag: what each takes, how each bears up.

python benchmarks/peers.py [--long] [--images 10000] [--rows 1000] [--outcomes 4] [--engines 2]
                          [--rounds 4]

Each peer is a program of its own in `programs/`, as its documentation has it, in an environment of its own
(the two of Ray Data share one), which is made here when it is not there. All have the same rows, models and
cores; the photographs are dealt out to some rounds, in each of which every peer has its turn, and laketag on
Ray and on Spark as well. An outcome is what a run left behind: every row and label of it was checked.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bars
import bench
import lance
import samples
from trials import CPU, ENGINES, PEERS, SECONDS, Peer, Trial, photographed, ratio, reason, told

ON_ENGINES = [
    Peer(f"laketag on {engine}", "laketag_tag", arguments=(engine, "1", "2")) for engine in ENGINES[1:]
]


def appended(trial: Trial) -> str:
    """Label, append one row in a hundred, and run the same program again."""
    trial.run("trivial").checked()
    more = max(1, len(trial.images) // 100)
    trial.append(more)
    before, done = trial.predictions, trial.run("trivial")
    if done.returncode == 0:
        right = (
            trial.right() == len(trial.images)
            and len(trial.peer.labels(trial.uri)) == len(trial.images) + more
        )
        return f"{trial.predictions - before:,} predictions{'' if right else ', and labels are wrong'}"
    said = reason(done)
    lance.dataset(trial.uri).drop_columns(["SCORE"])
    trial.run("trivial").checked()
    return f"fails ({said}); {trial.predictions - before:,} predictions once the column is dropped"


def broken(trial: Trial) -> str:
    """Label images of which one is none."""
    bad = len(trial.images) // 2
    done = trial.run("trivial")
    if done.returncode:
        labels = sum(score is not None for score in trial.peer.labels(trial.uri).values())
        return f"fails ({reason(done)}); {labels:,} labels"
    right, score = trial.right(but=bad), trial.peer.labels(trial.uri)[bad]
    names = lance.dataset(trial.uri).schema.names
    why = (
        ", and a reason in its row"
        if any(name.endswith("_ERROR") for name in names)
        else ", no reason in its row"
    )
    value = "null" if score is None else "NaN" if math.isnan(score) else "a wrong label"
    return f"{right:,} of {len(trial.images) - 1:,} labels; the bad one is {value}{why}"


def killed(trial: Trial) -> str:
    """Kill the program when half is predicted, and run it again."""
    half = len(trial.images) // 2
    trial.run("slow", kill_when=lambda: trial.predictions >= half)
    done = trial.run("slow")
    if done.returncode:
        return f"fails ({reason(done)})"
    twice, right = trial.predictions - len(trial.images), trial.right()
    return f"{twice:,} images predicted again" + (
        "" if right == len(trial.images) else ", and labels are wrong"
    )


def meddled(trial: Trial) -> str:
    """Append rows while the program is at work."""
    third, more, has_appended = len(trial.images) // 3, 10, []

    def append() -> bool:
        if not has_appended and trial.predictions >= third:
            has_appended.append(trial.append(more))
        return False

    done = trial.run("slow", kill_when=append)
    if not has_appended:
        raise RuntimeError(f"{trial.peer.name} was done before anyone appended: {reason(done)}")
    rows = lance.dataset(trial.uri).count_rows() - len(trial.images)
    kept = "the append is kept" if rows == more else f"{more - rows} of {more} appended rows are lost"
    if done.returncode:
        return f"fails ({reason(done)}); {trial.predictions:,} predictions are lost; {kept}"
    right = trial.right()
    labels = (
        "labels are right"
        if right == len(trial.images)
        else f"{len(trial.images) - right:,} labels are wrong"
    )
    if trial.peer.makes_another:
        others = len(trial.peer.labels(trial.uri)) - len(trial.images)
        kept = f"{others} of {more} appended rows are in the new dataset"
    return f"{labels}; {kept}"


OUTCOMES: dict[str, Callable[[Trial], str]] = {
    "one bad image": broken,
    "an append meanwhile": meddled,
    "after 1 % is appended": appended,
    "killed at half way": killed,
}
"""Each is a program or two more for every peer, so the short form has none."""


def outcomes(peer: Peer, folder: Path, rows: int, count: int) -> dict[str, str]:
    """Let things happen to one peer, and say what came of it."""
    found = {}
    for number, (name, happen) in enumerate(list(OUTCOMES.items())[:count]):
        images = [b"image %d " % row * 20 for row in range(rows)]
        if happen is broken:
            images[rows // 2] = b"broken"
        found[f"{peer.name}: {name}"] = happen(
            Trial(peer, folder / f"{peer.program}-{number}", images).write()
        )
    return found


def timed(peer: Peer, folder: Path, rows: int) -> dict[str, Any]:
    """Time a trivial model."""
    images = [b"image %d " % row * 20 for row in range(rows)]
    small = Trial(peer, folder / f"{peer.program}-trivial", images).write()
    done = small.run("trivial")
    right = small.right()
    if done.returncode == 0 and right != rows:
        raise RuntimeError(f"{peer.name}: {right:,} labels of {rows:,} are right")
    failed = done.returncode and f"fails ({reason(done)})"
    return {
        f"{peer.name}: trivial model: seconds": failed or done.wall,
        f"{peer.name}: trivial model: CPU seconds": failed or done.cpu,
    }


def main() -> None:
    asked = bench.asked(
        __doc__,
        images=(40, 10_000),
        rows=(1000, 1000),
        outcomes=(0, len(OUTCOMES)),
        engines=(0, len(ON_ENGINES)),
        rounds=(1, 4),
    )
    for peer in PEERS:
        peer.python()
    folder = Path(tempfile.mkdtemp(prefix="laketag-bench-"))
    figures: dict[str, Any] = {"images": asked.images, "rows": asked.rows, "rounds": asked.rounds}
    sides = (*PEERS, *ON_ENGINES[: asked.engines])
    try:
        for peer in PEERS:
            figures |= timed(peer, folder, asked.rows)
        rounds = photographed(sides, folder, samples.photographs(asked.images), asked.rounds)
        with ThreadPoolExecutor(2) as pool:
            for found in pool.map(lambda peer: outcomes(peer, folder, asked.rows, asked.outcomes), PEERS):
                figures |= found
    finally:
        shutil.rmtree(folder)
    figures |= told(sides, rounds, asked.images)
    for peer in PEERS[1:]:
        theirs, ours = (figures[f"{name}: trivial model: seconds"] for name in (peer.name, "laketag"))
        if not isinstance(theirs, str):
            figures[f"ratio {peer.name} / laketag: trivial model: seconds"] = theirs / ours
        for name in (side.name for side in sides if side.program == "laketag_tag"):
            for unit in (SECONDS, CPU):
                if found := ratio(rounds, peer.name, name, unit):
                    figures[f"ratio {peer.name} / {name}: nsfw: {unit}"] = found
    bench.finish("peers", figures, long=asked.long)
    bars.draw("peers", pictured(figures), long=asked.long)


def pictured(figures: dict[str, Any]) -> bars.Chart:
    """Show seconds of both models, a bar a peer."""
    names = [peer.name for peer in PEERS]
    groups = {
        f"trivial, {figures['rows']:,} rows": "trivial model: seconds",
        f"nsfw, {figures['images']:,} images": "nsfw: seconds less start-up",
    }
    panels = [
        bars.Panel(
            "seconds" + (", start-up apart" if "less" in key else ""),
            {title: [figures[f"{name}: {key}"] for name in names]},
        )
        for title, key in groups.items()
    ]
    return bars.Chart("One label column more, two cores", names, panels)


if __name__ == "__main__":
    main()
