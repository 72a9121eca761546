"""Today's habit against laketag: rewriting WebDataset tars to add a label, and everything that comes after.

python benchmarks/rewrite.py [--long] [--images 1500] [--shards 8] [--rounds 3] [--crashes 1]

The habit is `programs/rewrite_tars.py`: Ray tasks over tars, sample by sample, whole new tars. Both sides
have the same images, models and cores. What each takes with two images is its start-up, which
is taken off seconds and bytes. Bytes are what the operating system counted for all processes of a side.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bars
import bench
import processes
import samples

PROGRAMS = Path(__file__).parent / "programs"
HABIT = (sys.executable, PROGRAMS / "rewrite_tars.py")
LAKETAG = (sys.executable, "-m", "laketag")
WORKERS = ("--workers", "2")
OVER, STRICT, EVERY = 0.00155, 0.0014, 10
"""A score that some images are over; another threshold for tags; one of how many a filter takes."""
TAG = f"case when NSFW_SCORE >= {STRICT} then 'nsfw' else 'sfw' end"
Command = tuple[str | Path, ...]


@dataclass(frozen=True)
class Step:
    """One thing that people do, both ways; None is what a side need not do."""

    name: str
    habit: Command | None
    laketag: Command


def steps(folder: Path, tars: Path) -> list[Step]:
    """Give what is done, in order, with what lies in a folder of its own."""
    first, second, third, fourth = (folder / f"tars-{number}" for number in range(1, 5))
    lake = folder / "lake.lance"
    some = f"number % {EVERY} = 0"
    return [
        Step("import, once", None, ("import", tars, lake, *WORKERS)),
        Step(
            "first label, nsfw",
            ("label", tars, first, "NSFW_SCORE", "nsfw"),
            ("tag", lake, "--with", "tagging:nsfw"),
        ),
        Step(
            "second label, brightness",
            ("label", first, second, "GLOW", "glow"),
            ("tag", lake, "--with", "tagging:glow"),
        ),
        Step(
            "label of a tenth",
            ("label", second, third, "SHINE", "glow", str(EVERY)),
            ("tag", lake, "--with", "tagging:shine", "--where", some),
        ),
        Step(
            "filter query",
            ("query", third, "NSFW_SCORE", str(OVER)),
            ("query", lake, "--where", f"NSFW_SCORE > {OVER}", "--columns", "__key__,NSFW_SCORE", "--json"),
        ),
        Step(
            "other threshold of tags",
            ("tag", third, fourth, "NSFW_SCORE", str(STRICT)),
            ("add-column", lake, "NSFW_TAG", TAG, "--replace"),
        ),
    ]


def run(
    program: Command, command: Command, marks: Path, *, kill_when: Callable[[], bool] = lambda: False
) -> processes.Done:
    """Run one side's command, its predictions counted in a file of marks."""
    variables = {"LABELS_MARKS": str(marks), "OMP_NUM_THREADS": "1"}
    variables["PYTHONPATH"] = bench.python_path(PROGRAMS)
    return processes.run([*program, *command], variables=variables, kill_when=kill_when)


def one_round(folder: Path, tars: Path) -> dict[tuple[str, str], processes.Done]:
    """Do every step, both ways in turn."""
    folder.mkdir()
    done = {}
    for step in steps(folder, tars):
        if step.habit:
            done[step.name, "habit"] = run(HABIT, step.habit, folder / "marks").checked()
        done[step.name, "laketag"] = run(LAKETAG, step.laketag, folder / "marks").checked()
    return done


def crashed(folder: Path, tars: Path, images: int) -> dict[tuple[str, str], tuple[processes.Done, int]]:
    """Kill each side when half is predicted, start it again; gives that run and what was predicted twice."""
    folder.mkdir()
    begin, label, *_ = steps(folder, tars)
    run(LAKETAG, begin.laketag, folder / "marks").checked()
    found = {}
    for side, program, command in (("habit", HABIT, label.habit), ("laketag", LAKETAG, label.laketag)):
        marks = folder / f"marks-{side}"

        def is_half_done(marks: Path = marks) -> bool:
            return marks.exists() and marks.stat().st_size >= images // 2

        killed = run(program, command, marks, kill_when=is_half_done)
        if killed.returncode != -9:
            raise RuntimeError(
                f"{side} was not killed at half way: exit {killed.returncode}, {killed.stderr}"
            )
        again = run(program, command, marks).checked()
        found[side] = again, marks.stat().st_size - images
    return found


def compare(folder: Path, done: Mapping[tuple[str, str], processes.Done], images: int) -> None:
    """Make sure that both sides have the same labels of every image, and found the same ones.

    Raises:
        RuntimeError: they have not.
    """
    query = ("query", folder / "lake.lance", "--columns", "__key__,NSFW_SCORE,NSFW_TAG,GLOW,SHINE", "--json")
    said = run(LAKETAG, query, folder / "marks").checked().stdout
    ours = {row.pop("__key__"): row for row in map(json.loads, said.splitlines())}
    theirs = {}
    for name in sorted((folder / "tars-4").glob("*.tar")):
        with tarfile.open(name) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    facts = json.load(tar.extractfile(member))
                    theirs[member.name.removesuffix(".json")] = facts
    for key, row in ours.items():
        for column, value in row.items():
            _expect(_same(value, theirs[key].get(column)), f"{key}: {column}")
    _expect(len(ours) == len(theirs) == images, f"{len(ours)} and {len(theirs)} of {images} images")
    found = [done["filter query", side].stdout.splitlines() for side in ("habit", "laketag")]
    keys = [
        {line.partition("\t")[0] for line in found[0] if line},
        {json.loads(line)["__key__"] for line in found[1]},
    ]
    _expect(keys[0] == keys[1] and 0 < len(keys[0]) < images, "the filter query")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-3)
    return bool(one == other)


def _expect(is_so: bool, what: str) -> None:
    if not is_so:
        raise RuntimeError(f"both sides should agree, and do not: {what}")


def figures_of(
    rounds: list[dict[tuple[str, str], processes.Done]], starts: list[dict[tuple[str, str], processes.Done]]
) -> dict[str, Any]:
    """Say what each step took on each side, start-up taken off: medians of both."""
    figures: dict[str, Any] = {}
    for step, side in rounds[0]:
        for what, unit in (
            ("wall", "seconds"),
            ("cpu", "CPU seconds"),
            ("read", "MB read"),
            ("written", "MB written"),
        ):
            scale = 1e6 if unit.startswith("MB") else 1
            whole, start = (
                statistics.median(getattr(one[step, side], what) for one in runs) for runs in (rounds, starts)
            )
            figures[f"{step}: {side}: {unit}"] = max(0.0, whole - start) / scale
            if what == "wall":
                figures[f"{step}: {side}: start-up seconds"] = start
    for step, side in rounds[0]:
        for unit in ("seconds", "CPU seconds", "MB read", "MB written"):
            theirs, ours = (figures.get(f"{step}: {who}: {unit}") for who in ("habit", "laketag"))
            if side == "habit" and ours:  # else it is too little to be told from the start-up
                figures[f"{step}: ratio of {unit}"] = theirs / ours
    return figures


def main() -> None:
    asked = bench.asked(__doc__, images=(160, 1500), shards=(8, 8), rounds=(1, 3), crashes=(0, 1))
    folder = Path(tempfile.mkdtemp(prefix="laketag-bench-"))
    try:
        photographs = samples.photographs(asked.images)
        size = samples.write(folder / "tars", photographs, asked.shards)
        samples.write(folder / "tiny", photographs[:2], 2)
        starts, rounds = [], []
        for number in range(asked.rounds):
            starts.append(one_round(folder / f"start-{number}", folder / "tiny"))
            rounds.append(one_round(folder / f"round-{number}", folder / "tars"))
            compare(folder / f"round-{number}", rounds[-1], asked.images)
            shutil.rmtree(folder / f"round-{number}")
        restarts = crashed(folder / "crash", folder / "tars", asked.images) if asked.crashes else {}
    finally:
        shutil.rmtree(folder)
    figures = {"images": asked.images, "tars": asked.shards, "MB of tars": size / 1e6, "rounds": asked.rounds}
    figures |= figures_of(rounds, starts)
    for side, (again, twice) in restarts.items():
        name = "restart after a crash at half way"
        figures[f"{name}: {side}: seconds"] = (
            again.wall - figures[f"first label, nsfw: {side}: start-up seconds"]
        )
        figures[f"{name}: {side}: images predicted twice"] = twice
    bench.finish("rewrite", figures, long=asked.long)
    bars.draw("rewrite", pictured(figures), long=asked.long)


def pictured(figures: Mapping[str, Any]) -> bars.Chart:
    """Choose what the picture shows: CPU seconds, which tell little of what else ran, and bytes."""
    end = ": habit: MB written"
    names = [key.removesuffix(end) for key in figures if key.endswith(end)]
    panels = [
        bars.Panel(
            unit,
            {
                name: tuple(figures[f"{name}: {side}: {unit}"] for side in ("habit", "laketag"))
                for name in names
            },
        )
        for unit in ("CPU seconds", "MB read", "MB written")
        if any(
            figures[f"{name}: habit: {unit}"] for name in names
        )  # few images take less than their start-up
    ]
    size = f"{figures['images']:,} images in tars of {figures['MB of tars']:,.0f} MB"
    title = f"{size}, two cores, start-up apart"
    return bars.Chart(title, ("rewriting the tars", "laketag"), panels)


if __name__ == "__main__":
    main()
