"""What a worker does with a task: read the rows that lack labels, run the taggers, stage what they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laketag.engines import stopping
from laketag.lake.dataset import open_dataset
from laketag.lake.location import Location
from laketag.lake.reading import scan
from laketag.taggers.pipeline import Pipeline
from laketag.taggers.rows import Labels, Row
from laketag.tagging.job import Job
from laketag.tagging.plan import Chunk
from laketag.tagging.staging import Index, Part, Staging, staged_addresses

if TYPE_CHECKING:
    from lance import LanceDataset

Addresses = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """Neighbouring chunks, with what is staged for them already."""

    chunks: tuple[Chunk, ...]
    """In the dataset's order."""
    staged: tuple[Index, ...]
    """For each job, the staged parts that may hold rows of these chunks."""


@dataclass(frozen=True)
class Done:
    """What a worker says of a task: where labels lie, and what it cost. Never the labels themselves."""

    parts: tuple[tuple[Part, ...], ...]
    """For each job, what was staged."""
    computed: int = 0
    """Rows that a tagger was run on."""
    bytes_read: int = 0
    """From the dataset."""
    bytes_written: int = 0
    """Of staged files."""


@dataclass(frozen=True)
class Wanted:
    """The rows of a chunk that lack labels."""

    addresses: Addresses
    """Row addresses that some job wants, in order."""
    by_job: tuple[npt.NDArray[np.bool_], ...]
    """For each job, whether it wants the row."""
    is_all: bool
    """Whether these are all live rows of the chunk, so that it can be read as a range."""


@dataclass(frozen=True)
class Compute:
    """The function that every engine runs: labels of a task, staged."""

    location: Location
    version: int
    """Which every worker reads."""
    jobs: tuple[Job, ...]
    """Run in one pass."""
    inputs: tuple[tuple[str, str], ...]
    """(role, column) of everything that the taggers read."""
    where: str | None
    """A filter; rows that it leaves out stay not computed."""
    labelled: tuple[bool, ...]
    """For each job, whether the version has its columns."""
    device: str = "cpu"
    threads: int | None = None
    batch_size: int | None = None
    row_bytes: int = 0
    """An estimate of an image's size."""

    def __call__(self, task: Task) -> Done:
        """Compute what is missing of a task, chunk by chunk, and stage it."""
        from laketag.tagging.careful import carefully

        dataset = _dataset(self.location.uri, self.version, self.location)
        dataset.io_stats_incremental()
        work = Work(self, dataset, task)
        begun = self.staging(0).begun()
        try:
            fresh = [chunk for chunk in task.chunks if chunk.key not in begun]
            for chunk, labels in self.pipeline().run(work.chunks(fresh)):
                work.stage(chunk, labels)
            for chunk in task.chunks:
                if chunk.key in begun and not stopping.requested():
                    work.markers[chunk.key] = begun[chunk.key]
                    work.stage(chunk, carefully(self, chunk, work.wanted(chunk)))
        finally:
            work.end()
        return work.done(dataset.io_stats_incremental().read_bytes)

    def pipeline(self) -> Pipeline:
        """Load the taggers, once per process."""
        digests = tuple(job.digest for job in self.jobs)
        return _pipeline(digests, self.device, self.threads, self.batch_size, _Hidden(self))

    def staging(self, job: int) -> Staging:
        """Say where a job's labels are staged."""
        return Staging(self.location, self.jobs[job].digest)

    def rows(self, dataset: LanceDataset, chunk: Chunk, wanted: Wanted) -> Iterator[Row]:
        """Read the inputs of some rows of a chunk."""
        columns = list(dict.fromkeys(column for _, column in self.inputs))
        only = None if wanted.is_all else wanted.addresses.astype(np.uint64)
        every = all(mask.all() for mask in wanted.by_job)
        takers = None if every else np.stack(wanted.by_job)
        roles = [role for role, _ in self.inputs]
        done = 0
        for batch in scan(dataset, chunk.ranges, columns, addresses=only, row_bytes=self.row_bytes):
            values = [batch.column(column).to_pylist() for _, column in self.inputs]
            for position, *row in zip(batch.column("_rowaddr").to_pylist(), *values, strict=True):
                inputs = dict(zip(roles, row, strict=True))
                by = None if takers is None else tuple(np.flatnonzero(takers[:, done]).tolist())
                yield Row(position, inputs, by)
                done += 1


@dataclass
class Work:
    """A task under way in this process."""

    compute: Compute
    dataset: LanceDataset
    task: Task
    markers: dict[str, list[str]] = field(default_factory=dict)
    parts: dict[int, list[Part]] = field(default_factory=dict)
    computed: int = 0
    bytes_written: int = 0

    def chunks(self, chunks: list[Chunk]) -> Iterator[tuple[Chunk, Iterator[Row]]]:
        """Begin chunk after chunk, with a marker first; called ahead of the predictions."""
        for chunk in chunks:
            wanted = self.wanted(chunk)
            if len(wanted.addresses):
                self.markers[chunk.key] = [self.compute.staging(0).begin(chunk)]
                yield chunk, self.compute.rows(self.dataset, chunk, wanted)

    def wanted(self, chunk: Chunk) -> Wanted:
        """Find the rows of a chunk that are selected and lack labels, without reading an image."""
        compute = self.compute
        digests = [job.digest_column for job, has in zip(compute.jobs, compute.labelled, strict=True) if has]
        batches = list(scan(self.dataset, chunk.ranges, digests, where=compute.where))
        table = pa.Table.from_batches(batches) if batches else None
        addresses = np.empty(0, np.int64) if table is None else table["_rowaddr"].to_numpy().astype(np.int64)
        masks = []
        for number, job in enumerate(compute.jobs):
            staged = staged_addresses(compute.staging(number), self.task.staged[number], chunk)
            mask = ~np.isin(addresses, staged)
            if table is not None and compute.labelled[number]:
                mask &= table[job.digest_column].is_null().to_numpy()
            masks.append(mask)
        some = np.logical_or.reduce(masks)
        is_all = compute.where is None and bool(some.all())
        return Wanted(addresses[some], tuple(mask[some] for mask in masks), is_all)

    def stage(self, chunk: Chunk, labels: list[Labels]) -> None:
        """Stage what the taggers said of a chunk, then take its marker away."""
        addresses: set[int] = set()
        for number, one in enumerate(labels):
            if len(one.positions):
                parts, size = self.compute.staging(number).stage(chunk, one.batch, one.positions)
                self.parts.setdefault(number, []).extend(parts)
                self.bytes_written += size
                addresses.update(one.positions.tolist())
        self.computed += len(addresses)
        self.compute.staging(0).end(self.markers.pop(chunk.key, []))

    def end(self) -> None:
        """Take away the markers of chunks that were begun and not staged: nothing killed this process."""
        for names in self.markers.values():
            self.compute.staging(0).end(names)

    def done(self, bytes_read: int) -> Done:
        """Sum up."""
        parts = tuple(tuple(self.parts.get(number, ())) for number in range(len(self.compute.jobs)))
        return Done(parts, self.computed, bytes_read, self.bytes_written)


@dataclass(frozen=True)
class _Hidden:
    """Carries what a cached function needs, but its cache must not look at."""

    compute: Compute = field(compare=False)


@lru_cache(maxsize=1)
def _pipeline(
    digests: tuple[str, ...], device: str, threads: int | None, batch_size: int | None, hidden: _Hidden
) -> Pipeline:
    return Pipeline(
        [job.tagger for job in hidden.compute.jobs],
        device=device,
        threads=threads,
        batch_size=batch_size,
        stop=stopping.requested,
    )


_open: dict[tuple[str, int], LanceDataset] = {}


def _dataset(uri: str, version: int, location: Location) -> LanceDataset:
    """Open a version once per process: its manifest may be large."""
    if (uri, version) not in _open:
        _open.clear()
        _open[uri, version] = open_dataset(location, version)
    return _open[uri, version]
