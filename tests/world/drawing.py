"""Sequences of steps, made up at random."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from world import others
from world.moments import Moment
from world.steps import Step
from world.watched import Some

_OFTEN = {
    40: "freely",
    10: "weather",
    5: "slices replace",
    4: "tag adopt update compact",
    3: "append merge in_place whole_file restore clean",
    2: "ask delete restore_by_name cleanup index",
    1: "rename drop cast derive foreign overwrite other_column name_version",
}
WEIGHTS = {name: weight for weight, names in _OFTEN.items() for name in names.split()}
"""How often each step is drawn."""
SHARES = {
    "where": 0.3,
    "limit": 0.15,
    "max_error_rate": 0.3,
    "retry_errors": 0.25,
    "recompute": 0.2,
    "slice": 0.1,
    "stage_only": 0.3,
    "commit_only": 0.1,
    "commit_every": 0.12,
    "column": 0.02,
    "moment": 0.4,
    "failing": 0.6,
    "deadly": 0.1,
}
"""How often a step has each of its options."""
_NAMES = [*[("first",)] * 6, *[("first", "second")] * 3, *[("second",)] * 2]
_INSIDE = ("tag", "rename", "drop", "derive", "restore_by_name", "name_version")
"""What laketag itself may do in the middle of a run."""


class Drawing:
    """A sequence to be: what it is made of is its own, as half of all steps and options; that finds more."""

    def __init__(self, seed: int) -> None:
        """Choose."""
        self.chance = random.Random(seed)
        self.stable_row_ids = self.chance.random() < 0.5
        self.names = _NAMES if self.chance.random() < 0.5 else _NAMES[:6]
        self.weights = {name: weight * self.chance.choice([0, 2]) for name, weight in WEIGHTS.items()}
        self.weights["freely"] = WEIGHTS["freely"]
        self.shares = {name: share * self.chance.choice([0, 2]) for name, share in SHARES.items()}

    def sequence(self, steps: int) -> list[Step]:
        """Make it up; no step needs another one, so that any may be left out."""
        return [self.step() for _ in range(steps)]

    def step(self) -> Step:
        [name] = self.chance.choices([*self.weights], [*self.weights.values()])
        return name, getattr(self, name)()

    def has(self, option: str) -> bool:
        return self.chance.random() < self.shares[option]

    def some(self) -> Some:
        of = self.chance.choice([2, 3, 5, 7, 11])
        return of, self.chance.randrange(of)

    def options(self, **drawn: Any) -> dict[str, Any]:
        """Keep some of the options."""
        return {name: value for name, value in drawn.items() if self.has(name)}

    def tag(self, *, is_inside: bool = False) -> dict[str, Any]:
        chance = self.chance
        asked = self.options(
            where=self.some(),
            limit=chance.randint(1, 12),
            max_error_rate=chance.choice([0.0, 0.1, 0.5, 1.0]),
            slice=chance.choice([(1, 2), (2, 2), (2, 3)]),
            column="thumb",
            **{} if is_inside else {"retry_errors": True, "recompute": True, "moment": self.moment()},
        )
        how = self.options(stage_only=True, commit_only=True, commit_every=chance.randint(1, 3))
        if how:  # they exclude each other
            [name] = chance.sample([*how], 1)
            if name != "commit_every" or "recompute" not in asked:
                asked[name] = how[name]
        names = ("first2",) if chance.random() < 0.05 else chance.choice(self.names)
        return {"names": names, "chunk_rows": chance.choice([3, 5, 8, 20]), **asked}

    freely = tag

    def slices(self) -> dict[str, Any]:
        of = self.chance.choice([2, 3])
        order = self.chance.sample(range(1, of + 1), of - (self.chance.random() < 0.2))
        asked = self.options(retry_errors=True, recompute=True)
        if self.chance.random() < 0.6:
            asked["stage_only"] = True
        return {"of": of, "order": order, "names": self.chance.choice(self.names), "chunk_rows": 5, **asked}

    def moment(self) -> Moment:
        chance = self.chance
        nth = chance.choice([*range(1, 12), chance.randint(1, 60)])
        if chance.random() < 0.5:
            what = chance.choice(["kill", "kill", "kill a worker", "stop", "full"])
            return Moment(chance.choice(["write", "write", "commit"]), nth, what, chance.random() < 0.5)
        if chance.random() < 0.1:
            return Moment("commit", 1, "unheard", is_after=True)
        place = chance.choice(["task", "commit", "write"])
        # A write may be a worker's, which is no place for another run.
        name = chance.choice(others.STEPS if place == "write" else (*others.STEPS, *_INSIDE))
        given = self.tag(is_inside=True) if name == "tag" else getattr(self, name)()
        return Moment(place, min(nth, 2) if place == "commit" else nth, (name, given))

    def weather(self) -> Mapping[str, Any]:
        return self.options(failing=self.some(), deadly=self.some())

    def adopt(self) -> Mapping[str, Any]:
        return {
            "name": self.chance.choice(["first", "first2", "second"]),
            **self.options(moment=self.moment()),
        }

    def foreign(self) -> Mapping[str, Any]:
        name = self.chance.choice(["first", "second"])
        return {"name": name, "some": self.some(), **self.options(moment=self.moment())}

    def ask(self) -> Mapping[str, Any]:
        return {"name": self.chance.choice(["first", "second"])}

    def append(self) -> Mapping[str, Any]:
        return {"count": self.chance.randint(1, 9)}

    def delete(self) -> Mapping[str, Any]:
        return {"some": self.some()}

    update = delete

    def replace(self) -> Mapping[str, Any]:
        [kind] = self.chance.choices(["image", "alike", "bad"], [7, 1, 2])
        return {"some": self.some(), "kind": kind}

    def merge(self) -> Mapping[str, Any]:
        chance = self.chance
        return {"some": self.some(), "new": chance.randint(0, 3), "is_whole": chance.random() < 0.5}

    def whole_file(self) -> Mapping[str, Any]:
        return {"fragment": self.chance.randrange(4), "some": self.some()}

    def in_place(self) -> Mapping[str, Any]:
        return {**self.whole_file(), "column": self.chance.choice(["jpg", "extra"])}

    def overwrite(self) -> Mapping[str, Any]:
        return {"count": self.chance.randint(5, 30)}

    def compact(self) -> Mapping[str, Any]:
        return {"target": self.chance.choice([8, 15, 30, 1000])}

    def restore(self) -> Mapping[str, Any]:
        return {"back": self.chance.randint(1, 6)}

    restore_by_name = restore

    def clean(self) -> Mapping[str, Any]:
        return {"is_all": self.chance.random() < 0.2, "compact": self.chance.random() < 0.5}

    def index(self) -> Mapping[str, Any]:
        return {"column": self.chance.choice(["FIRST", "FIRST_DIGEST", "number"])}

    def rename(self) -> Mapping[str, Any]:
        return {**self.drop(), "is_back": self.chance.random() < 0.5}

    def drop(self) -> Mapping[str, Any]:
        return {"column": self.chance.choice(["FIRST", "FIRST", "FIRST_ERROR", "FIRST_DIGEST", "SECOND"])}

    def cast(self) -> Mapping[str, Any]:
        return {"column": "FIRST", "kind": self.chance.choice(["int32", "int64"])}

    def derive(self) -> Mapping[str, Any]:
        return {"column": "FIRST", "is_over": self.chance.random() < 0.2}

    def nothing(self) -> Mapping[str, Any]:
        return {}

    cleanup = other_column = name_version = nothing
