"""From staged labels to the column files of a commit, made again only where others changed something."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from laketag.engines.local import Local
from laketag.errors import CommitError, DatasetError
from laketag.lake.committing import FragmentColumns, delete_unused
from laketag.lake.dataset import column_ids, fragments_of, open_dataset, path_of
from laketag.lake.location import Location
from laketag.lake.reading import live_addresses, ranges_of
from laketag.lake.session import many
from laketag.taggers.pipeline import cores
from laketag.tagging.job import Job, columns_of_others
from laketag.tagging.joining import Joining, Made, StagedFragment
from laketag.tagging.moving import follow
from laketag.tagging.plan import Chunk
from laketag.tagging.staging import LABELS, Index, Staging, neighbours, staged_addresses

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

_MANY = 2000
"""Fragments from which on their files are made by processes of their own, which take a second to start."""
_MOST_WORKERS = 8
_BUNDLE = 256
"""Fragments that such a process does at a time, at least."""


@dataclass(frozen=True)
class StagedJob:
    """A job with what is staged for it."""

    job: Job
    staging: Staging
    index: Index
    followed: int = 0
    """The version up to which the index follows rows that others moved."""
    still: frozenset[int] = frozenset()
    """Versions that are known to have moved nothing."""


@dataclass
class Assembly:
    """Column files for the dataset as it is at each attempt to commit; what stays valid is kept."""

    location: Location
    jobs: Sequence[StagedJob]
    tell: Callable[[int, int], None]
    """Called with the fragments that have their file and all of them, now and then."""
    made: Made = field(default_factory=dict)
    used: list[FragmentColumns] = field(default_factory=list)

    @property
    def columns(self) -> pa.Schema:
        """All jobs' columns, as they are committed."""
        return pa.schema([column for staged in self.jobs for column in staged.job.columns])

    def in_the_way(self, dataset: LanceDataset) -> list[str]:
        """List the columns of others that a recompute replaces."""
        return [
            name
            for one in self.jobs
            if one.staging.work != LABELS
            for name in columns_of_others(one.job, dataset.schema)
        ]

    def rows_without(self) -> int:
        """Count the rows that some job has no staged labels for; those that came later are not counted."""
        last = max(part.version for one in self.jobs for part in one.index.parts)
        try:
            dataset = open_dataset(self.location, last)
        except DatasetError:  # it was cleaned away
            dataset = open_dataset(self.location)
        lacking = 0
        for one in self.jobs:
            for rows in ranges_of(dataset, one.job.reads):
                staged = staged_addresses(one.staging, one.index, Chunk.of([rows]))
                lacking += int(np.count_nonzero(~np.isin(live_addresses(dataset, [rows]), staged)))
        return lacking

    def prepare(self, dataset: LanceDataset) -> list[FragmentColumns]:
        """Make a verified column file for every fragment that has staged labels.

        Raises:
            CommitError: a column that the labels are made from is gone.
        """
        self._check_inputs(dataset)
        # Others may have compacted since the labels were staged, and again since the last attempt.
        self.jobs = [
            replace(
                one,
                index=follow(dataset, one.job, one.staging, one.index, since=one.followed, still=one.still),
                followed=dataset.version,
            )
            for one in self.jobs
        ]
        joining = Joining(
            self.location,
            dataset.version,
            dataset.data_storage_version,
            tuple((one.job, one.staging) for one in self.jobs),
            tuple(tuple(_held(one.job, dataset)) for one in self.jobs),
        )
        places = self._places(dataset, joining.held)
        new = [place for place in places if place.key not in self.made]
        done = len(places) - len(new)
        for count in self._join(joining, dataset, list(neighbours(new, lambda place: place.parts))):
            done += count
            self.tell(done, len(places))
        self.used = [FragmentColumns(place.fragment, self.made[place.key]) for place in places]
        return self.used

    def drop_unused(self) -> None:
        """Delete the column files of attempts that lost to another writer."""
        delete_unused(self.location, self.made.values(), self.used)

    def _check_inputs(self, dataset: LanceDataset) -> None:
        for one in self.jobs:
            gone = [name for name in one.job.reads if name not in dataset.schema.names]
            if gone:
                raise CommitError(
                    f"column {gone[0]!r}, which tagger {one.job.name!r} has read, is gone from version "
                    f"{dataset.version} of {self.location.uri}; its labels are staged: bring the column back "
                    "(rename-column where it was renamed, else `laketag restore`) and run the same command "
                    "again"
                )

    def _places(self, dataset: LanceDataset, held: Sequence[Sequence[str]]) -> list[StagedFragment]:
        """List the fragments that some job has staged labels for."""
        fields = set(column_ids(dataset, [name for names in held for name in names]))
        label_files = {
            each.id: tuple(path_of(file) for file in each.files if fields & set(file.fields))
            for each in (fragments_of(dataset) if fields else ())
        }
        places = []
        for ranges in zip(*(ranges_of(dataset, one.job.reads) for one in self.jobs), strict=True):
            staged = tuple(tuple(one.index.over(rows)) for one, rows in zip(self.jobs, ranges, strict=True))
            if any(staged):
                places.append(StagedFragment(ranges, staged, label_files.get(ranges[0].fragment, ())))
        return places

    def _join(
        self, joining: Joining, dataset: LanceDataset, groups: Sequence[Sequence[StagedFragment]]
    ) -> Iterator[int]:
        """Make the files of all groups; yields how many there are more, now and then."""
        if sum(map(len, groups)) < _MANY or cores() == 1:
            yield from many(self.location, partial(joining.join, dataset, self.made), groups)
            return
        # Threads would wait for each other: half of the work is Python's.
        workers = Local(min(cores(), _MOST_WORKERS))
        with closing(workers.run(joining, _bundles(groups))) as finished:
            for made in finished:
                self.made |= made
                yield len(made)


def _bundles(groups: Sequence[Sequence[StagedFragment]]) -> list[list[Sequence[StagedFragment]]]:
    bundles: list[list[Sequence[StagedFragment]]] = [[]]
    for group in groups:
        if sum(map(len, bundles[-1])) >= _BUNDLE:
            bundles.append([])
        bundles[-1].append(group)
    return bundles


def _held(job: Job, dataset: LanceDataset) -> list[str]:
    """List the job's columns where the dataset has labels of its own to join the staged ones with."""
    is_ours = not columns_of_others(job, dataset.schema)
    return [name for name in job.columns.names if name in dataset.schema.names] if is_ours else []
