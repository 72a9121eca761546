"""How a worker of a run reads rows and labels them, with models that are loaded once per process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from laketag.engines import place, stopping
from laketag.lake.dataset import open_dataset
from laketag.lake.location import Location
from laketag.lake.reading import scan, values
from laketag.taggers.digest import input_digest
from laketag.taggers.pipeline import Pipeline
from laketag.taggers.rows import Row
from laketag.tagging.job import Job
from laketag.tagging.plan import Chunk
from laketag.tagging.staging import LABELS, Staging
from laketag.tagging.task import Wanted

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset


@dataclass(frozen=True)
class Labelling:
    """All that a worker needs to know of a run, but the rows: where they lie, the taggers, the device."""

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
    """An estimate of a row's size."""

    @cached_property
    def dataset(self) -> LanceDataset:
        """The version, opened once per run and process: its manifest may be large."""
        return open_dataset(self.location, self.version)

    @property
    def device(self) -> str:
        """The device of this worker."""
        return self.devices[place.number() % len(self.devices)]

    def pipeline(self) -> Pipeline:
        """Give the taggers, loaded once per process."""
        digests = tuple(job.digest for job in self.jobs)
        told = (digests, self.device, self.threads, self.cores, self.batch_size)
        if told not in _loaded:
            _loaded.clear()  # first: a device may not hold two models
            _loaded[told] = self.load(stopping.requested)
        return _loaded[told]

    def load(self, stop: Callable[[], bool]) -> Pipeline:
        """Load the taggers."""
        pipeline = Pipeline(
            [job.tagger for job in self.jobs],
            device=self.device,
            threads=self.threads,
            batch_size=self.batch_size,
            stop=stop,
        )
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
        only = None if wanted.is_all else wanted.addresses
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


_loaded: dict[tuple[object, ...], Pipeline] = {}
