"""Which labels a job knows to be right, so that only the other rows are looked at.

A row's label is stale where its image, or another column that the tagger reads, was replaced after the label
was made. Whoever replaces a value writes another data file for it, and whoever brings an old label back
(a restore) brings another label file: files never change. So labels in a known file beside inputs in known
files are right without a look; any other are suspect, and the digest of each row's inputs decides.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from laketag.lake.dataset import data_file, field_id, fragments_of
from laketag.lake.lineage import is_restored, rewritten
from laketag.lake.location import Location
from laketag.lake.reading import ranges_of
from laketag.lake.staged import StagedFiles
from laketag.tagging.job import Job

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

_SOURCE = "file"


@dataclass(frozen=True)
class Checked:
    """The labels known to be right, as of a version."""

    version: int = 0
    """0 where nothing is known: the first run, or the record was cleaned away."""
    sources: frozenset[str] = frozenset()
    """Data files of inputs and of labels that belong together, as one text each."""


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
    """Name the fragments whose labels may be stale: they have labels that are not known to be right."""
    if job.digest_column not in dataset.schema.names:
        return frozenset()
    known = _known(dataset, job, checked)
    unknown = {rows.fragment for rows in ranges_of(dataset, _columns(job)) if rows.source not in known}
    return _labelled(dataset, job) & unknown


def known_after(
    before: LanceDataset,
    after: LanceDataset,
    job: Job,
    checked: Checked,
    *,
    is_whole: bool,
    own: frozenset[int],
) -> Checked:
    """Say what is known once a run has ended.

    A run over all rows has labelled or checked every one that it saw. A run that `where` or `limit` narrowed
    knows the fragments that had no labels before, or known ones: what it made itself is right.

    Args:
        before: the version that the run read.
        after: the version that it left.
        job: whose labels they are.
        checked: what was known before.
        is_whole: whether the run went over all rows.
        own: the versions that the run made: they compacted and restored nothing.
    """
    if not set(_columns(job)) <= set(after.schema.names):
        return Checked(after.version)
    kept = frozenset() if is_whole else _known(after, job, checked, own)
    if is_restored(after, before.version, own):  # labels of any age may be back
        return Checked(after.version, kept)
    doubtful = frozenset() if is_whole else suspects(before, job, checked)
    right = frozenset(r.source for r in ranges_of(before, job.reads) if r.fragment not in doubtful)
    right |= rewritten(after, job.reads, right, before.version, own)
    seen = zip(ranges_of(after, job.reads), ranges_of(after, _columns(job)), strict=True)
    return Checked(after.version, kept | {both.source for inputs, both in seen if inputs.source in right})


def _columns(job: Job) -> tuple[str, ...]:
    return (*job.reads, job.digest_column)


def _known(
    dataset: LanceDataset, job: Job, checked: Checked, own: frozenset[int] = frozenset()
) -> frozenset[str]:
    return checked.sources | rewritten(dataset, _columns(job), checked.sources, checked.version, own)


def _labelled(dataset: LanceDataset, job: Job) -> frozenset[int]:
    """Name the fragments that have a data file with the job's labels."""
    field = field_id(dataset.lance_schema, job.digest_column)
    return frozenset(each.id for each in fragments_of(dataset) if data_file(each, field))


def _folder(location: Location, job: Job) -> StagedFiles:
    return StagedFiles(location, f"{job.digest}/checked")


def _version(name: str) -> int:
    return int(name.split(".")[0])
