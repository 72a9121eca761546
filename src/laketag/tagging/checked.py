"""Which sources a job's labels are known to belong to, so that only the other rows are looked at.

A row's label is stale where its image, or another column that the tagger reads, was replaced after the label
was made. Whoever replaces a value writes another data file for it, so labels beside known files are right
without a look; beside any other file they are suspect, and the digest of each row's inputs decides.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from laketag.lake.dataset import data_file, field_id
from laketag.lake.lineage import rewritten
from laketag.lake.location import Location
from laketag.lake.reading import ranges_of
from laketag.lake.staged import StagedFiles
from laketag.tagging.job import Job

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

_SOURCE = "file"


@dataclass(frozen=True)
class Checked:
    """The sources known to a job, as of a version."""

    version: int = 0
    """0 where nothing is known: the first run, or the record was cleaned away."""
    sources: frozenset[str] = frozenset()


def read_checked(location: Location, job: Job) -> Checked:
    """Read the newest record of a job."""
    folder = _folder(location, job)
    names = folder.names()
    if not names:
        return Checked()
    newest = max(names, key=_version)
    return Checked(_version(newest), frozenset(folder.read(newest)[_SOURCE].to_pylist()))


def write_checked(location: Location, job: Job, checked: Checked) -> None:
    """Record what is known now, then forget what was known before."""
    folder = _folder(location, job)
    before = folder.names()
    table = pa.table({_SOURCE: pa.array(sorted(checked.sources), pa.string())})
    folder.write(f"{checked.version}.{uuid.uuid4().hex[:12]}.lance", table)
    folder.delete(before)


def suspects(dataset: LanceDataset, job: Job, checked: Checked) -> frozenset[int]:
    """Name the fragments whose labels may be stale: they have labels, and their source is not known."""
    known = checked.sources | rewritten(dataset, job.reads, checked.sources, checked.version)
    unknown = {rows.fragment for rows in ranges_of(dataset, job.reads) if rows.source not in known}
    return _labelled(dataset, job) & unknown


def known_after(dataset: LanceDataset, job: Job, checked: Checked, *, is_whole: bool) -> Checked:
    """Say what is known once a run on this version has ended.

    A run over all rows has labelled or checked every one. A run that `where` or `limit` narrowed knows
    only the fragments that had no labels before: what it made itself is right, the rest it did not see.
    """
    ranges = ranges_of(dataset, job.reads)
    if is_whole:
        return Checked(dataset.version, frozenset(rows.source for rows in ranges))
    kept = checked.sources | rewritten(dataset, job.reads, checked.sources, checked.version)
    labelled = _labelled(dataset, job)
    return Checked(dataset.version, kept | {rows.source for rows in ranges if rows.fragment not in labelled})


def _labelled(dataset: LanceDataset, job: Job) -> frozenset[int]:
    """Name the fragments that have a data file with the job's labels."""
    if job.digest_column not in dataset.schema.names:
        return frozenset()
    field = field_id(dataset.lance_schema, job.digest_column)
    return frozenset(f.fragment_id for f in dataset.get_fragments() if data_file(f.metadata, field))


def _folder(location: Location, job: Job) -> StagedFiles:
    return StagedFiles(location, f"{job.digest}/checked")


def _version(name: str) -> int:
    return int(name.split(".")[0])
