"""Which image files a job's labels are known to belong to, so that only the others' images are looked at.

A row's label is stale where its image was replaced after the label was made. Whoever replaces an image
writes another data file for it, so labels beside a known image file are right without a look; beside any
other file they are suspect, and the digest of each image decides.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from laketag.lake.dataset import data_file, field_id
from laketag.lake.lineage import rewritten
from laketag.lake.location import Location
from laketag.lake.staged import StagedFiles
from laketag.tagging.job import Job
from laketag.tagging.plan import ranges_of

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

_FILE = "file"


@dataclass(frozen=True)
class Checked:
    """The image files known to a job, as of a version."""

    version: int = 0
    """0 where nothing is known: the first run, or the record was cleaned away."""
    files: frozenset[str] = frozenset()


def read_checked(location: Location, job: Job) -> Checked:
    """Read the newest record of a job."""
    folder = _folder(location, job)
    names = folder.names()
    if not names:
        return Checked()
    newest = max(names, key=_version)
    return Checked(_version(newest), frozenset(folder.read(newest)[_FILE].to_pylist()))


def write_checked(location: Location, job: Job, checked: Checked) -> None:
    """Record what is known now, then forget what was known before."""
    folder = _folder(location, job)
    before = folder.names()
    table = pa.table({_FILE: pa.array(sorted(checked.files), pa.string())})
    folder.write(f"{checked.version}.{uuid.uuid4().hex[:12]}.lance", table)
    folder.delete(before)


def suspects(dataset: LanceDataset, job: Job, image_column: str, checked: Checked) -> frozenset[int]:
    """Name the fragments whose labels may be stale: they have labels, and their image file is not known."""
    files = checked.files | rewritten(dataset, image_column, checked.files, checked.version)
    unknown = {rows.fragment for rows in ranges_of(dataset, image_column) if rows.file not in files}
    return _labelled(dataset, job) & unknown


def known_after(
    dataset: LanceDataset, job: Job, image_column: str, checked: Checked, *, is_whole: bool
) -> Checked:
    """Say what is known once a run on this version has ended.

    A run over all rows has labelled or checked every one. A run that `where` or `limit` narrowed knows
    only the fragments that had no labels before: what it made itself is right, the rest it did not see.
    """
    ranges = ranges_of(dataset, image_column)
    if is_whole:
        return Checked(dataset.version, frozenset(rows.file for rows in ranges))
    kept = checked.files | rewritten(dataset, image_column, checked.files, checked.version)
    labelled = _labelled(dataset, job)
    return Checked(dataset.version, kept | {rows.file for rows in ranges if rows.fragment not in labelled})


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
