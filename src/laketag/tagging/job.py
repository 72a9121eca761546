"""A job: one tagger on one dataset, and what it adds to every row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from laketag.errors import ColumnError, JobRefused
from laketag.lake.labels import made_by, recorded
from laketag.taggers.digest import provenance, tagger_digest
from laketag.taggers.protocol import Tagger, digest_column, error_column, label_schema

ADOPTED_FROM = "adopted_from"
"""In the provenance of adopted columns: who had made them."""
_NO_PARAMETERS = ("job", "digest", "tagger", "source")
_SHOWN = 24  # characters of a parameter in an error
_WAYS_OUT = (
    "--recompute replaces them for all rows, `laketag adopt` takes them over, rename-column keeps them apart"
)


@dataclass(frozen=True)
class Job:
    """One tagger's work; its digest is of what determines the labels: the same command is the same job."""

    tagger: Tagger
    """The model before it is loaded."""
    digest: str
    """Hex digest of code or weights, parameters, preprocessing and the input columns."""
    inputs: tuple[tuple[str, str], ...]
    """(role, column) of what its labels are made from, in the tagger's order."""
    columns: pa.Schema
    """Label columns, error column and digest column, as committed, provenance in their metadata."""
    taken_over: tuple[str, ...] = ()
    """The label columns of another program on which the states depend, too, that `adopt` makes."""

    @property
    def name(self) -> str:
        """The tagger's name."""
        return self.tagger.name

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that its labels are made from."""
        return tuple(dict.fromkeys([*(column for _, column in self.inputs), *self.taken_over]))

    @property
    def provenance(self) -> dict[str, str]:
        """What each of its columns says of its maker."""
        return made_by(self.columns.field(self.digest_column))

    @property
    def error_column(self) -> str:
        """Why a row has no label; null where it has one."""
        return error_column(self.tagger)

    @property
    def digest_column(self) -> str:
        """Digest of the input that the label was made from; null where none was computed."""
        return digest_column(self.tagger)

    @property
    def states(self) -> tuple[str, str]:
        """The columns that tell what a row is: not computed, labelled or failed."""
        return self.error_column, self.digest_column


def job_of(tagger: Tagger, inputs: Sequence[tuple[str, str]]) -> Job:
    """Name a tagger's job on the columns that it reads, given as (role, column) pairs."""
    columns_of = dict(inputs)
    # In the tagger's own order: beside another tagger it is the same job.
    read = tuple((role, columns_of[role]) for role in tagger.reads)
    digest = hashlib.sha256(f"{tagger_digest(tagger)} {json.dumps(read)}".encode()).hexdigest()[:32]
    told = ",".join(f"{role}={column}" for role, column in read)
    maker = recorded({**provenance(tagger), "job": digest, "inputs": told})
    columns = pa.schema([field.with_metadata(maker) for field in label_schema(tagger)])
    return Job(tagger, digest, read, columns)


def has_columns(job: Job, schema: pa.Schema) -> bool:
    """Whether a dataset has the job's columns, made by this very job.

    Raises:
        ColumnError: a column's name equals another's but for case.
        JobRefused: columns of these names were made by something else, have other types, or only some of them
            are there.
    """
    present = _present(job, schema)
    if not present:
        return False
    for name in present:
        if made_by(schema.field(name)).get("job") != job.digest:
            raise JobRefused(
                f"column {name!r} of tagger {job.name!r} was made by {maker_of(schema, name)}"
                f"{_differing(made_by(schema.field(name)), job)}, and labels of two makers are never mixed: "
                f"{_WAYS_OUT}"
            )
        held, made = schema.field(name).type, job.columns.field(name).type
        if held != made:
            raise JobRefused(
                f"column {name!r} is {held}, tagger {job.name!r} makes {made}: `laketag cast-column` gives "
                "it that type, --recompute replaces it, rename-column keeps it apart"
            )
    if len(present) < len(job.columns):
        absent = [name for name in job.columns.names if name not in present]
        raise JobRefused(
            f"of the columns of tagger {job.name!r} {', '.join(absent)} went away, {', '.join(present)} did "
            "not, so no one can tell which rows have labels: bring it back (rename-column, or "
            "`laketag restore`), drop the rest, or --recompute"
        )
    return True


def columns_of_others(job: Job, schema: pa.Schema) -> list[str]:
    """List the columns that are in a job's way: of its names, and not the whole work of this very job.

    Raises:
        ColumnError: a column's name equals another's but for case.
    """
    present = _present(job, schema)
    is_ours = len(present) == len(job.columns) and all(
        made_by(schema.field(name)).get("job") == job.digest
        and schema.field(name).type == job.columns.field(name).type
        for name in present
    )
    return [] if is_ours else present


def _present(job: Job, schema: pa.Schema) -> list[str]:
    by_lower = {name.lower(): name for name in schema.names}
    for name in job.columns.names:
        found = by_lower.get(name.lower(), name)
        if found != name:
            raise ColumnError(
                f"the new column {name!r} equals the column {found!r} but for case; rename one of them"
            )
    return [name for name in job.columns.names if name in schema.names]


def maker_of(schema: pa.Schema, name: str) -> str:
    """Say in words what made a column."""
    said = made_by(schema.field(name))
    if not said:
        return "a program that left no provenance"
    if "expression" in said:
        return f"add-column as {said['expression']}"
    return f"another {said.get('tagger', 'tagger')} (job {said.get('job', 'unknown')[:12]})"


def _differing(said: dict[str, str], job: Job) -> str:
    """Say in which parameters an earlier job of the tagger was another; nothing where that is not known."""
    now = job.provenance
    own = [key for key in now if key in said and key not in _NO_PARAMETERS and not key.startswith("version.")]
    parts = [f"{key} {_short(said[key])} (not {_short(now[key])})" for key in own if said[key] != now[key]]
    return f" with {', '.join(parts)}" if parts else ""


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
