"""What a worker does with a task: read the rows that lack labels, run the taggers, stage what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from laketag.engines import stopping
from laketag.errors import DeviceLost
from laketag.lake.patience import explained
from laketag.lake.reading import scan
from laketag.taggers.rows import Labels, Row, Stats
from laketag.tagging.careful import carefully
from laketag.tagging.job import Job
from laketag.tagging.labelling import Labelling
from laketag.tagging.plan import Chunk
from laketag.tagging.staging import Index, Part, staged_addresses
from laketag.tagging.task import Addresses, Done, Task, Wanted

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

# What a crash costs of a slow model, whatever the size of a chunk; a chunk of a fast one ends before.
_STAGE_SECONDS = 5.0


@dataclass(frozen=True)
class Compute(Labelling):
    """The function that every engine runs: labels of a task, staged."""

    def __call__(self, task: Task) -> Done:
        """Compute what is missing of a task, chunk by chunk, and stage it."""
        with explained(self.location.uri):
            return self._stage_all(task)

    def _stage_all(self, task: Task) -> Done:
        dataset = self.dataset
        dataset.io_stats_incremental()
        begun = self.staging(0).begun()
        work = self._resumed(dataset, task)
        try:
            # First: a process that has no model yet leaves its device to the one that computes them.
            for chunk in task.chunks:
                if chunk.key in begun and not stopping.requested():
                    labels = carefully(self, chunk, work.wanted(chunk))
                    if not stopping.requested():  # else it may have been cut, and is no less dangerous
                        work.markers[chunk.key] = begun[chunk.key]
                    work.stage(chunk, labels)
            stats = self._stage_new(work, [chunk for chunk in task.chunks if chunk.key not in begun])
        finally:
            work.end()
        done = work.done(dataset.io_stats_incremental().read_bytes)
        return replace(done, stats=stats)

    def _stage_new(self, work: Work, chunks: list[Chunk]) -> Stats:
        """Compute chunks in this process; returns where its time went."""
        if not chunks or stopping.requested():
            return Stats()
        pipeline = self.pipeline()
        before = replace(pipeline.stats)
        try:
            work.stage_beside(pipeline.run(work.chunks(chunks), most_seconds=_STAGE_SECONDS))
        except DeviceLost:
            if pipeline.stats.predicted:  # else it is the model, or the card, and not a row
                # As where a row kills the process: another gets the task, and finds these chunks marked.
                work.markers.clear()
                stopping.request()
            raise
        return pipeline.stats.since(before)

    def _resumed(self, dataset: LanceDataset, task: Task) -> Work:
        """Begin a task, with what an attempt that died, or was stopped, has staged of it since its plan."""
        found = [
            Index.of(self.staging(job).parts(but=index.names, task=task.key))
            .within(task.ranges_of(job))
            .parts
            for job, index in enumerate(task.staged)
        ]
        staged = tuple(index.plus(parts) for index, parts in zip(task.staged, found, strict=True))
        work = Work(self, dataset, replace(task, staged=staged), parts=dict(enumerate(found)))
        for chunk in task.chunks if any(found) else ():
            for job, parts in enumerate(found):
                seen = task.chunk_of(job, chunk)
                work.count(chunk, staged_addresses(self.staging(job), Index.of(parts), seen))
        return work


@dataclass
class Work:
    """A task under way in this process."""

    compute: Compute
    dataset: LanceDataset
    task: Task
    markers: dict[str, list[str]] = field(default_factory=dict)
    parts: dict[int, list[Part]] = field(default_factory=dict)
    counted: dict[str, set[int]] = field(default_factory=dict)
    """By the key of a chunk that is not whole yet, the rows of it that are computed, by any tagger."""
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

    def stage_beside(self, labelled: Generator[tuple[Chunk, list[Labels]], None, None]) -> None:
        """Stage chunk after chunk, or a piece of one, each while the next is predicted: no device waits."""
        # Closed here: what reads ahead leaves markers, and where staging fails a traceback keeps it open.
        with ThreadPoolExecutor(1, thread_name_prefix="laketag-stage") as beside, closing(labelled):
            staging: Future[None] | None = None
            for chunk, labels in labelled:
                # One at a time: a crash costs what is being staged and what is being predicted.
                if staging is not None:
                    staging.result()
                staging = beside.submit(self.stage, chunk, labels)
            if staging is not None:
                staging.result()

    def stage(self, chunk: Chunk, labels: list[Labels]) -> None:
        """Stage what the taggers said of a chunk; where that was the last of it, take its marker away."""
        for number, one in enumerate(labels):
            if len(one.positions):
                seen = self.task.chunk_of(number, chunk)
                parts, size = self.compute.staging(number).stage(
                    seen,
                    one.batch,
                    one.positions,
                    version=self.compute.version,
                    task=self.task.key,
                    after=self.task.staged[number].newest,
                )
                self.parts.setdefault(number, []).extend(parts)
                self.bytes_written += size
                self._count_errors(self.compute.jobs[number], one)
                self.count(chunk, one.positions)
        if all(one.is_whole for one in labels):
            self.counted.pop(chunk.key, None)
            self.compute.staging(0).end(self.markers.pop(chunk.key, []))

    def count(self, chunk: Chunk, addresses: Addresses) -> None:
        """Count the rows of a chunk that a tagger was run on, each once, whichever tagger comes first."""
        counted = self.counted.setdefault(chunk.key, set())
        self.computed -= len(counted)
        counted.update(addresses.tolist())
        self.computed += len(counted)

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
