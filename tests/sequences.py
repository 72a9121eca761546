"""Random sequences of all that laketag does and of all that others do, each step held against an oracle.

    python tests/sequences.py [--seconds 300] [--seed 1] [--steps 14]

In `world/`, `oracle.py` says what must be true, `steps.py` and `others.py` what may happen, `drawing.py` how
often. A sequence that breaks a promise is made as short as it gets, and printed as `play` takes it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from world.drawing import Drawing
from world.oracle import Wrong
from world.steps import Step, World
from world.watched import WEATHER, Weather

END: list[Step] = [
    ("weather", {}),
    ("tag", {"names": ("first", "second"), "chunk_rows": 5, "max_error_rate": 1.0}),
    ("tag", {"names": ("first", "second"), "chunk_rows": 5, "max_error_rate": 1.0, "retry_errors": True}),
    ("tag", {"names": ("first", "second"), "chunk_rows": 5}),
    ("ask", {"name": "first"}),
]
"""How every sequence ends."""
_PATIENCE = 40.0
"""Seconds in which a sequence is made shorter."""


@dataclass(frozen=True)
class Played:
    """What a sequence came to."""

    sequence: Sequence[Step]
    stable_row_ids: bool
    taken: int
    """Steps that were taken."""
    counts: Mapping[str, int]
    """How they ended."""
    wrong: str = ""
    """The promise that it broke; nothing where it broke none."""
    where: str = ""
    """The traceback."""

    def __str__(self) -> str:
        steps = "\n".join(f"    {step}," for step in self.sequence)
        return f"{self.where}{self.wrong}\nplay([\n{steps}\n], stable_row_ids={self.stable_row_ids})"

    @property
    def kind(self) -> str:
        """What remains the same while a sequence is made shorter."""
        return self.wrong.partition(": ")[0]


def explored(seed: int, steps: int) -> Played:
    """Make up a sequence and play it; one that breaks a promise comes in its shortest form."""
    drawing = Drawing(seed)
    played = play(drawing.sequence(steps), stable_row_ids=drawing.stable_row_ids)
    return _shortened(played) if played.wrong else played


def play(sequence: Sequence[Step], *, stable_row_ids: bool) -> Played:
    """Play a sequence on a new dataset, then let everything be tagged."""
    folder = Path(tempfile.mkdtemp(prefix="laketag-sequence-"))
    WEATHER.__dict__.update(Weather().__dict__)
    taken, wrong, where = 0, "", ""
    world = World(str(folder / "data"), stable_row_ids=stable_row_ids)
    try:
        for step in [*sequence, *END]:
            world.do(step)
            taken += 1
    except Wrong as error:
        wrong, where = str(error), traceback.format_exc()
    except Exception as error:  # whatever it is, it is what is looked for
        wrong, where = f"{type(error).__name__}: {error}", traceback.format_exc()
    finally:
        shutil.rmtree(folder)
    return Played(sequence, stable_row_ids, taken, world.counts, wrong, where)


def _shortened(played: Played) -> Played:
    """Leave out what a broken promise does not need."""
    until, best = time.monotonic() + _PATIENCE, played
    is_shorter = True
    while is_shorter:
        is_shorter = False
        for shorter in _shorter(best.sequence[: best.taken + 1]):
            if time.monotonic() > until:
                return best
            again = play(shorter, stable_row_ids=played.stable_row_ids)
            if again.kind == played.kind:
                best, is_shorter = again, True
                break
    return best


def _shorter(sequence: Sequence[Step]) -> Iterator[list[Step]]:
    """Give sequences of fewer steps, then of as many that do less."""
    size = len(sequence) // 2
    while size:
        for start in range(0, len(sequence), size):
            yield [*sequence[:start], *sequence[start + size :]]
        size //= 2
    for at, (name, given) in enumerate(sequence):
        for option in given if name in ("tag", "freely", "slices", "adopt", "foreign") else ():
            if option not in ("names", "name", "some", "chunk_rows", "of", "order"):
                less = {key: value for key, value in given.items() if key != option}
                yield [*sequence[:at], (name, less), *sequence[at + 1 :]]
        moment = given.get("moment")
        if moment is not None and moment.nth > 1:
            earlier = {**given, "moment": replace(moment, nth=moment.nth - 1)}
            yield [*sequence[:at], (name, earlier), *sequence[at + 1 :]]


def main() -> None:
    """Play sequences for a while; each that breaks a promise is printed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--steps", type=int, default=14)
    asked = parser.parse_args()
    counts: Counter[str] = Counter()
    until, seed, wrong = time.monotonic() + asked.seconds, asked.seed, 0
    while time.monotonic() < until:
        played = explored(seed, asked.steps)
        counts.update({**played.counts, "steps": played.taken})
        if played.wrong:
            wrong += 1
            print(f"seed {seed}:\n{played}", flush=True)
        seed += 1
    print(f"seeds {asked.seed} to {seed - 1}, {wrong} wrong; {dict(counts.most_common())}")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
