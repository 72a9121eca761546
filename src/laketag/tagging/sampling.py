"""A dry run: the real taggers on some real rows, so that what a run will take is told before it is begun."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, islice, pairwise
from math import inf

from laketag.engines import stopping
from laketag.engines.protocol import Engine, workers_of
from laketag.errors import Interrupted
from laketag.taggers.budget import size_of
from laketag.taggers.pipeline import Pipeline
from laketag.taggers.protocol import batch_size_of, errors_of
from laketag.taggers.rows import Row, Stats
from laketag.tagging.compute import Compute, Work
from laketag.tagging.preparing import Run
from laketag.tagging.report import Estimate
from laketag.tagging.speed import speed_of
from laketag.tagging.task import Task

_BATCHES = 8
_LEAST_ROWS = 64
_SECONDS = 20.0


@dataclass(frozen=True)
class Sampled:
    """What a worker found."""

    rows: int
    failed: int
    seconds: float
    load_seconds: float
    row_bytes: float
    stats: Stats


@dataclass(frozen=True)
class Sample:
    """The function that the engine runs: some rows of some tasks labelled, timed and forgotten."""

    compute: Compute

    def __call__(self, tasks: Sequence[Task]) -> Sampled:
        """Warm up on a batch of rows that lack labels, then label some more, for a while at most."""
        compute, until = self.compute, inf
        started = time.perf_counter()

        def stop() -> bool:
            return stopping.requested() or time.perf_counter() > until

        pipeline = compute.load(stop)
        loaded = time.perf_counter()
        batch = compute.batch_size or max(batch_size_of(job.tagger) for job in compute.jobs)
        sizes: list[int] = []
        rows = self._rows(tasks, sizes, stop)
        found = [*islice(rows, 1)]  # however long that takes: the run will look through these chunks as well
        rows, until = chain(found, rows), time.perf_counter() + _SECONDS
        first = _run(pipeline, islice(rows, batch))
        # A batch that took all the time is all that there is to go by, first calls and all.
        then = _run(pipeline, islice(rows, max(_LEAST_ROWS, _BATCHES * batch)))
        labelled, failed, stats = then if then[0] else first
        mean = sum(sizes) / max(1, len(sizes))
        return Sampled(labelled, failed, stats.seconds, loaded - started, mean, stats)

    def _rows(self, tasks: Sequence[Task], sizes: list[int], stop: Callable[[], bool]) -> Iterator[Row]:
        dataset = self.compute.dataset
        chunks = ((Work(self.compute, dataset, task), chunk) for task in tasks for chunk in task.chunks)
        for work, chunk in chunks:
            if stop():
                return
            wanted = work.wanted(chunk)
            if len(wanted.addresses):
                for row in self.compute.rows(dataset, chunk, wanted):
                    sizes.append(sum(map(size_of, row.inputs.values())))
                    yield row


def estimate(run: Run, engine: Engine, price_per_hour: float | None = None) -> Estimate | None:
    """Time a sample on every worker at once, as they will share the machine, and reckon from it.

    Returns None where no row was labelled: there is none, or a batch takes longer than the sample.

    Raises:
        Interrupted: Ctrl-C.
    """
    workers = min(workers_of(engine), len(run.tasks))
    cuts = [number * len(run.tasks) // workers for number in range(workers + 1)]
    shares = [run.tasks[start:stop] for start, stop in pairwise(cuts)]
    try:
        sampled = [one for one in engine.run(Sample(run.compute), shares) if one.rows]
    except KeyboardInterrupt:
        raise Interrupted("stopped before the sample was timed; nothing was written") from None
    if not sampled:
        return None
    rows = round(run.share * max(0, run.look.missing - run.compute.staging(0).rows_staged()))
    rate = sum(one.rows / one.seconds for one in sampled) * workers / len(sampled)
    seconds = max(one.load_seconds for one in sampled) + rows / rate
    return Estimate(
        rows=rows,
        bytes=round(rows * sum(one.row_bytes for one in sampled) / len(sampled)),
        tasks=len(run.tasks),
        workers=workers,
        seconds=seconds,
        rows_per_second=rate,
        cost=None if price_per_hour is None else seconds / 3600 * price_per_hour,
        sampled=sum(one.rows for one in sampled),
        sampled_failed=sum(one.failed for one in sampled),
        speed=speed_of(reduce(Stats.plus, (one.stats for one in sampled))),
    )


def _run(pipeline: Pipeline, rows: Iterator[Row]) -> tuple[int, int, Stats]:
    """Label rows; give how many there were, how many failed in some tagger, and the stats."""
    before = Stats().plus(pipeline.stats)
    positions: set[int] = set()
    failed: set[int] = set()
    for _, labels in pipeline.run([(None, rows)]):
        for one in labels:
            positions.update(one.positions.tolist())
            is_failed = errors_of(one.batch).is_valid().to_numpy(zero_copy_only=False)
            failed.update(one.positions[is_failed].tolist())
    return len(positions), len(failed), pipeline.stats.since(before)
