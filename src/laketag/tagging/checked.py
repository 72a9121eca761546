"""Which labels a job knows to be right, so that only the other rows are looked at.

A row's label is stale where its image, or another column that the tagger reads, was replaced after the label
was made. Whoever replaces a value writes another data file for it, and whoever brings an old label back
(a restore) brings another label file: files never change. So labels in a known file beside inputs in known
files are right without a look; any other are suspect, and the digest of each row's inputs decides.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from laketag.lake.dataset import data_file, field_id, fragments_of
from laketag.lake.lineage import is_restored, rewritten
from laketag.lake.location import Location
from laketag.lake.reading import ranges_of
from laketag.lake.staged import CHECKED, StagedFiles
from laketag.tagging.job import Job

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset
    from laketag.tagging.committing import Outcome

_SOURCE = "file"
_IS_COMPLETE = "is_complete"


@dataclass(frozen=True)
class Checked:
    """The labels known to be right, as of a version."""

    version: int = 0
    """0 where nothing is known: the first run, or the record was cleaned away."""
    sources: frozenset[str] = frozenset()
    """Data files of inputs and of labels that belong together, as one text each."""
    complete: frozenset[str] = frozenset()
    """Data files of labels in which every row has one, so that no one need look for rows without."""


def read_checked(location: Location, job: Job) -> Checked:
    """Read the newest record of a job."""
    folder = _folder(location, job)
    while names := folder.names():
        newest = max(names, key=_version)
        try:
            return _told(_version(newest), folder.read(newest))
        except (OSError, ValueError):
            if folder.contains(newest):
                raise
            # Another slice has written the next one meanwhile.
    return Checked()


def _told(version: int, table: pa.Table) -> Checked:
    told = table[_SOURCE].to_pylist()
    # An older laketag kept sources only.
    kinds = table[_IS_COMPLETE].to_pylist() if _IS_COMPLETE in table.column_names else [False] * len(told)
    sources, complete = (
        frozenset(name for name, is_complete in zip(told, kinds, strict=True) if is_complete is kind)
        for kind in (False, True)
    )
    return Checked(version, sources, complete)


def write_checked(location: Location, job: Job, checked: Checked) -> None:
    """Record what is known now, then forget what was known before."""
    folder = _folder(location, job)
    before = folder.names()
    told = [*sorted(checked.sources), *sorted(checked.complete)]
    kinds = [name >= len(checked.sources) for name in range(len(told))]
    table = pa.table({_SOURCE: pa.array(told, pa.string()), _IS_COMPLETE: pa.array(kinds, pa.bool_())})
    folder.write(f"{checked.version}.{uuid.uuid4().hex[:12]}.lance", table)
    folder.delete(before)


def suspects(dataset: LanceDataset, job: Job, checked: Checked) -> frozenset[int]:
    """Name the fragments whose labels may be stale: they have labels that are not known to be right."""
    if job.digest_column not in dataset.schema.names:
        return frozenset()
    known = _known(dataset, job, checked)
    unknown = {rows.fragment for rows in ranges_of(dataset, _columns(job)) if rows.source not in known}
    return _labelled(dataset, job) & unknown


def incomplete(dataset: LanceDataset, jobs: Sequence[Job], checked: Sequence[Checked]) -> frozenset[int]:
    """Name the fragments in which a row may lack a label of some job, all of which have their columns."""
    found: set[int] = set()
    for job, known in zip(jobs, checked, strict=True):
        held = _label_files(dataset, job)
        found |= {each.id for each in fragments_of(dataset) if held[each.id] not in known.complete}
    return frozenset(found)


def known_after(
    before: LanceDataset,
    after: LanceDataset,
    job: Job,
    checked: Checked,
    *,
    is_whole: bool,
    outcome: Outcome,
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
        outcome: what the run came to; the versions that it made compacted and restored nothing.
    """
    if not set(_columns(job)) <= set(after.schema.names):
        return Checked(after.version)
    own = outcome.own
    complete = checked.complete | {file for name, file in outcome.complete if name == job.digest_column}
    complete &= {file for file in _label_files(after, job).values() if file is not None}
    kept = frozenset() if is_whole else _known(after, job, checked, own)
    if is_restored(after, before.version, own):  # labels of any age may be back
        return Checked(after.version, kept, complete)
    doubtful = frozenset() if is_whole else suspects(before, job, checked)
    right = frozenset(r.source for r in ranges_of(before, job.reads) if r.fragment not in doubtful)
    right |= rewritten(after, job.reads, right, before.version, own)
    seen = zip(ranges_of(after, job.reads), ranges_of(after, _columns(job)), strict=True)
    sources = kept | {both.source for inputs, both in seen if inputs.source in right}
    return Checked(after.version, sources, complete)


def _columns(job: Job) -> tuple[str, ...]:
    return (*job.reads, job.digest_column)


def _known(
    dataset: LanceDataset, job: Job, checked: Checked, own: frozenset[int] = frozenset()
) -> frozenset[str]:
    return checked.sources | rewritten(dataset, _columns(job), checked.sources, checked.version, own)


def _labelled(dataset: LanceDataset, job: Job) -> frozenset[int]:
    """Name the fragments that have a data file with the job's labels."""
    return frozenset(fragment for fragment, file in _label_files(dataset, job).items() if file)


def _label_files(dataset: LanceDataset, job: Job) -> dict[int, str | None]:
    """Give each fragment's data file with the job's labels; None where it has none."""
    field = field_id(dataset.lance_schema, job.digest_column)
    return {each.id: data_file(each, field) for each in fragments_of(dataset)}


def _folder(location: Location, job: Job) -> StagedFiles:
    return StagedFiles(location, f"{job.digest}/{CHECKED}")


def _version(name: str) -> int:
    return int(name.split(".")[0])
