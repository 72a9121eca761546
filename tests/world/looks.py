"""What there is of a dataset at a moment, and all that was seen of a run: what the oracle judges by."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
from lance.file import LanceFileReader

from laketag.taggers.digest import input_digest
from laketag.tagging.job import Job, job_of
from world.watched import Some, Watched

LABELS, AGAIN = "tagged", "again"
TAGGERS = {tagger.label: tagger for tagger in (Watched("first"), Watched("first", "2"), Watched("second"))}
IMAGES = ("jpg", "thumb")
Row = dict[str, Any]


def job(name: str, column: str = "jpg") -> Job:
    """Give the job of a tagger on a column."""
    return job_of(TAGGERS[name], [("bytes", column)])


def image_of(row: Row, job: Job) -> bytes:
    """Give what a job's tagger reads of a row."""
    image: bytes = row[job.reads[0]]
    return image


def digest_of(image: bytes) -> int:
    return input_digest({"bytes": image})


def is_unique(row: Row) -> bool:
    """Whether no other row ever had this row's image."""
    image: bytes = row["jpg"]
    return not image.startswith(b"alike")


def said_of(column: pa.Field) -> dict[str, str]:
    """Give what a column says of its maker."""
    return dict(json.loads((column.metadata or {}).get(b"laketag", b"{}")))


@dataclass(frozen=True)
class Staged:
    """A staged label, or a staged reason."""

    digest: int
    """Of what it was made from."""
    is_good: bool
    version: int
    """The dataset's, in which its row lay where it says."""


@dataclass(frozen=True)
class Look:
    """All that there is at a moment."""

    version: int
    schema: pa.Schema
    rows: Mapping[int, Row]
    """By number."""
    staged: Mapping[tuple[str, str], frozenset[Staged]]
    """By the job's digest and the kind of work."""

    @classmethod
    def at(cls, uri: str) -> Look:
        dataset = lance.dataset(uri)
        dataset.validate()
        table = dataset.to_table()
        rows = {row["number"]: row for row in table.to_pylist()}
        assert len(rows) == len(table), "twice: a row is there twice"
        return cls(dataset.version, dataset.schema, rows, _staged(Path(uri)))

    def holder(self, job: Job) -> str:
        """Say whose the columns of a job are: `own`, `other` or `none`."""
        there = [column for column in job.columns if column.name in self.schema.names]
        held = [self.schema.field(column.name) for column in there]
        is_own = len(there) == len(job.columns) and all(
            said_of(one).get("job") == job.digest and one.type == column.type
            for one, column in zip(held, there, strict=True)
        )
        return "own" if is_own else "other" if there else "none"

    def states(self, job: Job) -> dict[int, tuple[Any, ...]]:
        """Give what the job's own columns hold: label, reason and digest of each row."""
        names = job.columns.names if self.holder(job) == "own" else []
        return {number: tuple(row[name] for name in names) for number, row in self.rows.items() if names}

    def committed(self, job: Job) -> dict[int, bool]:
        """Give the rows that have a label of their present image, or a reason; it is true of a label."""
        return {
            number: reason is None
            for number, (_, reason, digest) in self.states(job).items()
            if digest == digest_of(image_of(self.rows[number], job))
        }

    def waiting(self, job: Job, work: str = LABELS, *, since: int = 0) -> dict[int, bool]:
        """Give the rows that something is staged for, as `committed` does.

        What was staged before a version need not be found. Of an image that several rows have, no one can
        tell from outside whose label it is.
        """
        found: dict[int, bool] = {}
        for each in self.staged.get((job.digest, work), ()):
            if each.version >= since:
                found[each.digest] = found.get(each.digest, False) or each.is_good
        digests = {n: digest_of(image_of(row, job)) for n, row in self.rows.items() if is_unique(row)}
        return {number: found[digest] for number, digest in digests.items() if digest in found}

    def known(self, job: Job, *, since: int = 0) -> dict[int, bool]:
        """Give the rows that have a label, committed or staged, or else a reason."""
        one, other = self.waiting(job, since=since), self.committed(job)
        return {number: one.get(number, False) or other.get(number, False) for number in {*one, *other}}

    def without(self, names: Iterable[str]) -> dict[int, Row]:
        """Give all rows without some columns."""
        left_out = set(names)
        return {n: {k: v for k, v in row.items() if k not in left_out} for n, row in self.rows.items()}


@dataclass
class Ran:
    """A run of `tag`, with all that was seen of it."""

    asked: Mapping[str, Any]
    """By the names of `Rows` and `TagSettings`; what is not there is as it is by itself."""
    jobs: tuple[Job, ...]
    looks: list[Look]
    """Before it, and after each thing that others did in the middle of it."""
    after: Look
    given: Counter[tuple[str, bytes]]
    """How often the models were given each image, by the tagger's label."""
    report: Any = None
    error: BaseException | None = None
    fault: object = None
    """What broke it; nothing where it came too late."""
    deaths: int = 0
    """Workers that died."""
    is_inside: bool = False
    """Whether another run is at work, which has begun before it."""
    since: int = 0
    """What was staged before this version is lost: its rows were moved, and the history was cleaned away."""

    @property
    def is_again(self) -> bool:
        return bool(self.asked.get("recompute"))

    @property
    def work(self) -> str:
        return AGAIN if self.is_again else LABELS

    @property
    def is_alone(self) -> bool:
        """Whether nothing happened in the middle of it."""
        return len(self.looks) == 1 and not self.fault and not self.deaths

    def times(self, number: int, job: Job) -> int:
        """Count how often a model was given the images that a row had in the course of the run."""
        assert isinstance(job.tagger, Watched)
        rows = (look.rows[number] for look in self.looks if number in look.rows)
        return sum(self.given[job.tagger.label, image] for image in {image_of(row, job) for row in rows})

    def predicted(self, job: Job) -> set[int]:
        """Give the rows with an image that the job's model was given."""
        return {number for look in self.looks for number in look.rows if self.times(number, job)}

    def stayed(self) -> set[int]:
        """Give the rows that are there at every moment, with the same images."""
        looks = [*self.looks, self.after]
        first, *others = [{n: [row[c] for c in IMAGES] for n, row in look.rows.items()} for look in looks]
        return {n for n, images in first.items() if all(each.get(n) == images for each in others)}

    def selected(self) -> set[int]:
        """Give the rows that the filter took when the run began."""
        where: Some | None = self.asked.get("where")
        return {n for n in self.looks[0].rows if where is None or n % where[0] == where[1]}

    def settled(self, look: Look, job: Job) -> set[int]:
        """Give the rows that a run which began at that moment would not predict."""
        if "slice" in self.asked and not self.asked.get("stage_only"):
            # Of staged labels it counts those of its own chunks, which nobody can tell from outside.
            found = {} if self.is_again else look.committed(job)
        elif self.is_again:
            found = look.waiting(job, AGAIN, since=self.since)
        else:
            found = look.known(job, since=self.since)
        return {n for n, is_good in found.items() if is_good or not self.asked.get("retry_errors")}


def _staged(folder: Path) -> dict[tuple[str, str], frozenset[Staged]]:
    found: dict[tuple[str, str], set[Staged]] = {}
    for file in (folder / "_laketag").glob("*/*/labels/**/*.lance"):
        job, work = file.relative_to(folder / "_laketag").parts[:2]
        table = LanceFileReader(str(file)).read_all().to_table()
        [errors], [digests] = (
            [table[name].to_pylist() for name in table.column_names if name.endswith(end)]
            for end in ("_ERROR", "_DIGEST")
        )
        version = int(file.name.split(".")[3])
        labels = (Staged(d, e is None, version) for d, e in zip(digests, errors, strict=True))
        found.setdefault((job, work), set()).update(labels)
    return {key: frozenset(value) for key, value in found.items()}
