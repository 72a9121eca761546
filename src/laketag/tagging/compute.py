"""What a worker does with a task: read the rows that lack labels, run the taggers, stage what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from laketag.engines import place, stopping
from laketag.lake.dataset import open_dataset
from laketag.lake.location import Location
from laketag.lake.patience import explained
from laketag.lake.reading import RowRange, scan, values
from laketag.taggers.digest import input_digest
from laketag.taggers.pipeline import Pipeline
from laketag.taggers.rows import Labels, Row, Stats
from laketag.tagging.job import Job
from laketag.tagging.plan import Chunk
from laketag.tagging.staging import LABELS, Index, Part, Staging, staged_addresses

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

Addresses = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """Neighbouring chunks, with what is known of them already."""

    chunks: tuple[Chunk, ...]
    """In the dataset's order."""
    sources: tuple[Mapping[int, str], ...]
    """For each job, the source of each fragment: the data files of the columns that it reads."""
    suspects: tuple[frozenset[int], ...]
    """For each job, the fragments whose labels count only where the inputs have the label's digest."""
    staged: tuple[Index, ...] = ()
    """For each job, the staged parts that may hold rows of these chunks."""

    @property
    def fragments(self) -> frozenset[int]:
        """The fragments that it has rows of."""
        return frozenset(rows.fragment for chunk in self.chunks for rows in chunk.ranges)

    def chunk_of(self, job: int, chunk: Chunk) -> Chunk:
        """Give a chunk as a job sees it."""
        return chunk.read_from(self.sources[job])

    def ranges_of(self, job: int) -> list[RowRange]:
        """List the rows of all chunks as a job sees them."""
        return [rows for chunk in self.chunks for rows in self.chunk_of(job, chunk).ranges]


@dataclass(frozen=True)
class Done:
    """What a worker says of a task: where labels lie, and what it cost. Never the labels themselves."""

    parts: tuple[tuple[Part, ...], ...]
    """For each job, what was staged."""
    fragments: frozenset[int]
    """The task's."""
    is_whole: bool = True
    """False where the worker was told to stop: rows of the task may lack labels."""
    seen: int = 0
    """Rows of the task that the run selects."""
    computed: int = 0
    """Rows that a tagger was run on."""
    bytes_read: int = 0
    """From the dataset."""
    bytes_written: int = 0
    """Of staged files."""
    stats: Stats = field(default_factory=Stats)
    """Where its time went."""
    errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Rows that failed, by tagger and reason."""


@dataclass(frozen=True)
class Wanted:
    """The rows of a chunk that lack labels, and those whose labels may be stale."""

    addresses: Addresses
    """Row addresses that some job wants, in order."""
    by_job: tuple[npt.NDArray[np.bool_], ...]
    """For each job, whether it wants the row."""
    digests: tuple[pa.Array, ...]
    """For each job, the digest with which its label is still right; null where it has none."""
    is_all: bool
    """Whether these are all live rows of the chunk, so that it can be read as a range."""

    @property
    def is_plain(self) -> bool:
        """Whether every job wants every row, whatever its image is."""
        return all(mask.all() for mask in self.by_job) and all(d.null_count == len(d) for d in self.digests)


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
    """For each job, whether the version has labels that count."""
    retry_errors: bool = False
    """Whether failed rows count as rows without labels."""
    work: str = LABELS
    """What kind of work it is: it counts only what was staged by its kind."""
    devices: tuple[str, ...] = ("cpu",)
    """Shared out among the workers of a machine."""
    threads: int | None = None
    cores: int | None = None
    """A worker's share of its machine's cores; all of them where None."""
    batch_size: int | None = None
    row_bytes: int = 0
    """An estimate of an image's size."""

    def __call__(self, task: Task) -> Done:
        """Compute what is missing of a task, chunk by chunk, and stage it."""
        with explained(self.location.uri):
            return self._stage_all(task)

    def _stage_all(self, task: Task) -> Done:
        from laketag.tagging.careful import carefully

        dataset = dataset_at(self.location, self.version)
        dataset.io_stats_incremental()
        begun = self.staging(0).begun()
        work = Work(self, dataset, self._looked_up(task))
        pipeline = self.pipeline()
        before = replace(pipeline.stats)
        try:
            work.stage_beside(pipeline.run(work.chunks([c for c in task.chunks if c.key not in begun])))
            for chunk in task.chunks:
                if chunk.key in begun and not stopping.requested():
                    work.markers[chunk.key] = begun[chunk.key]
                    work.stage(chunk, carefully(self, chunk, work.wanted(chunk)))
        finally:
            work.end()
        done = work.done(dataset.io_stats_incremental().read_bytes)
        return replace(done, stats=pipeline.stats.since(before))

    def _looked_up(self, task: Task) -> Task:
        """Find what an attempt that died, or was stopped, has staged of a task since it was planned."""
        keys = {chunk.key for chunk in task.chunks}
        staged = [
            index.plus(self.staging(job).parts(but=index.names, of=keys)).within(task.ranges_of(job))
            for job, index in enumerate(task.staged)
        ]
        return replace(task, staged=tuple(staged))

    @property
    def device(self) -> str:
        """The device of this worker."""
        return self.devices[place.number() % len(self.devices)]

    def pipeline(self) -> Pipeline:
        """Load the taggers, once per process."""
        digests = tuple(job.digest for job in self.jobs)
        pipeline = _pipeline(digests, self.device, self.threads, self.batch_size, _Hidden(self))
        if self.cores is not None:
            pipeline.share(self.cores)
        return pipeline

    def staging(self, job: int) -> Staging:
        """Say where a job's labels are staged."""
        return Staging(self.location, self.jobs[job].digest, self.work)

    def rows(self, dataset: LanceDataset, chunk: Chunk, wanted: Wanted) -> Iterator[Row]:
        """Read the inputs of some rows of a chunk."""
        columns = list(dict.fromkeys(column for _, column in self.inputs))
        roles = [role for role, _ in self.inputs]
        only = None if wanted.is_all else wanted.addresses.astype(np.uint64)
        takers = None if wanted.is_plain else self._takers(wanted)
        for batch in scan(dataset, chunk.ranges, columns, addresses=only, row_bytes=self.row_bytes):
            found = [values(batch.column(column)) for _, column in self.inputs]
            for position, *row in zip(batch.column("_rowaddr").to_pylist(), *found, strict=True):
                inputs = dict(zip(roles, row, strict=True))
                if takers is None:
                    yield Row(position, inputs)
                elif by := tuple(self._still_wanted(next(takers), inputs)):
                    yield Row(position, inputs, by)

    def _takers(self, wanted: Wanted) -> Iterator[list[tuple[int, int | None]]]:
        """For each row, the jobs that want it, with the digest at which they do not after all."""
        columns = [digests.to_pylist() for digests in wanted.digests]
        for at in range(len(wanted.addresses)):
            yield [(job, columns[job][at]) for job, mask in enumerate(wanted.by_job) if mask[at]]

    def _still_wanted(self, takers: list[tuple[int, int | None]], inputs: dict[str, object]) -> Iterator[int]:
        for job, digest in takers:
            reads = self.jobs[job].tagger.reads
            if digest is None or digest != input_digest({role: inputs[role] for role in reads}):
                yield job


@dataclass
class Work:
    """A task under way in this process."""

    compute: Compute
    dataset: LanceDataset
    task: Task
    markers: dict[str, list[str]] = field(default_factory=dict)
    parts: dict[int, list[Part]] = field(default_factory=dict)
    seen: int = 0
    computed: int = 0
    bytes_written: int = 0
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)

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
        has_columns = zip(compute.jobs, compute.labelled, strict=True)
        names = [name for job, has in has_columns if has for name in job.states]
        batches = list(scan(self.dataset, chunk.ranges, names, where=compute.where))
        if not batches:
            return Wanted(np.empty(0, np.int64), (), (), is_all=False)
        table = pa.Table.from_batches(batches).combine_chunks()
        addresses = table["_rowaddr"].to_numpy().astype(np.int64)
        self.seen += len(addresses)
        found = [self._wanted_by(number, chunk, table, addresses) for number in range(len(compute.jobs))]
        some = np.logical_or.reduce([mask for mask, _ in found])
        return Wanted(
            addresses[some],
            tuple(mask[some] for mask, _ in found),
            tuple(digests.filter(pa.array(some)) for _, digests in found),
            is_all=compute.where is None and bool(some.all()),
        )

    def _wanted_by(
        self, number: int, chunk: Chunk, table: pa.Table, addresses: Addresses
    ) -> tuple[npt.NDArray[np.bool_], pa.Array]:
        """Give the rows that a job wants, and for those that it may not want the digest that decides."""
        job, compute = self.compute.jobs[number], self.compute
        staged = staged_addresses(
            compute.staging(number),
            self.task.staged[number],
            self.task.chunk_of(number, chunk),
            but_failed=job.error_column if compute.retry_errors else None,
        )
        is_open = ~np.isin(addresses, staged)
        none = pa.nulls(len(addresses), pa.int64())
        if not compute.labelled[number]:
            return is_open, none
        digests = table[job.digest_column].combine_chunks()
        lacks = digests.is_null().to_numpy(zero_copy_only=False)
        if compute.retry_errors:
            lacks |= table[job.error_column].is_valid().to_numpy()
        suspect = np.isin(addresses >> 32, list(self.task.suspects[number])) & ~lacks
        return is_open & (lacks | suspect), pc.if_else(pa.array(suspect), digests, none)

    def stage_beside(self, labelled: Iterator[tuple[Chunk, list[Labels]]]) -> None:
        """Stage chunk after chunk, each while the next is predicted: a device does not wait for a store."""
        with ThreadPoolExecutor(1, thread_name_prefix="laketag-stage") as beside:
            staging: Future[None] | None = None
            for chunk, labels in labelled:
                # One at a time: a crash costs the chunk that is staged and the one that is predicted.
                if staging is not None:
                    staging.result()
                staging = beside.submit(self.stage, chunk, labels)
            if staging is not None:
                staging.result()

    def stage(self, chunk: Chunk, labels: list[Labels]) -> None:
        """Stage what the taggers said of a chunk, then take its marker away."""
        addresses: set[int] = set()
        for number, one in enumerate(labels):
            if len(one.positions):
                seen = self.task.chunk_of(number, chunk)
                parts, size = self.compute.staging(number).stage(
                    seen, one.batch, one.positions, version=self.compute.version
                )
                self.parts.setdefault(number, []).extend(parts)
                self.bytes_written += size
                self._count_errors(self.compute.jobs[number], one)
                addresses.update(one.positions.tolist())
        self.computed += len(addresses)
        self.compute.staging(0).end(self.markers.pop(chunk.key, []))

    def _count_errors(self, job: Job, labels: Labels) -> None:
        for each in labels.batch.column(job.error_column).drop_null().value_counts():
            self.errors[job.name, each["values"].as_py()] += each["counts"].as_py()

    def end(self) -> None:
        """Take away the markers of chunks that were begun and not staged: nothing killed this process."""
        for names in self.markers.values():
            self.compute.staging(0).end(names)

    def done(self, bytes_read: int) -> Done:
        """Sum up."""
        parts = tuple(tuple(self.parts.get(number, ())) for number in range(len(self.compute.jobs)))
        return Done(
            parts,
            self.task.fragments,
            is_whole=not stopping.requested(),
            seen=self.seen,
            computed=self.computed,
            bytes_read=bytes_read,
            bytes_written=self.bytes_written,
            errors=self.errors,
        )


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


def dataset_at(location: Location, version: int) -> LanceDataset:
    """Open a version once per process: its manifest may be large."""
    if (location.uri, version) not in _open:
        _open.clear()
        _open[location.uri, version] = open_dataset(location, version)
    return _open[location.uri, version]
