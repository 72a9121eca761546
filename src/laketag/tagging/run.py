"""`tag`: the line from plan to commit."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laketag.engines.local import Local
from laketag.engines.protocol import Engine
from laketag.errors import Interrupted, JobRefused, TooManyErrors
from laketag.lake import sql
from laketag.lake.committing import commit_columns
from laketag.lake.dataset import image_column, open_dataset, require_columns
from laketag.lake.location import Location
from laketag.lake.reading import check_filter, scan
from laketag.taggers.protocol import BYTES, IMAGE, Tagger, batch_size_of, check_together
from laketag.taggers.spec import find
from laketag.tagging.assembly import Assembly, StagedJob
from laketag.tagging.compute import Compute, Done, Task
from laketag.tagging.job import Job, has_columns, job_of
from laketag.tagging.pin import pinned
from laketag.tagging.plan import Chunk, End, chunks_of, grouped, ranges_of
from laketag.tagging.settings import ErrorCount, Rows, TagReport, TagSettings
from laketag.tagging.staging import Index, Part, Staging, staged_labels
from laketag.tagging.watching import watching

if TYPE_CHECKING:
    from lance import LanceDataset

_BATCHES_PER_CHUNK = 32
_LEAST_CHUNK_ROWS = 1024


def tag(
    uri: str,
    taggers: Sequence[Tagger | str],
    *,
    storage_options: Mapping[str, str] | None = None,
    rows: Rows = Rows(),
    settings: TagSettings = TagSettings(),
    engine: Engine = Local(),
) -> TagReport:
    """Run taggers over the image column and commit their columns in one transaction.

    The same call again goes on where a broken one stopped, and computes only rows that have no labels.

    Args:
        uri: the dataset's.
        taggers: values, or names as `laketag tag --with` takes them; run in one pass.
        storage_options: for the dataset's store, as Lance takes them.
        rows: which rows.
        settings: how.
        engine: where.

    Raises:
        DatasetNotFound: there is no dataset.
        ColumnError: the image column, or another that a tagger reads, is missing or ambiguous.
        BadSQL: the filter cannot be run.
        TaggerError: a tagger cannot be used.
        JobRefused: a column of the same name was made by something else.
        TooManyErrors: more rows failed than `max_error_rate`; nothing is committed, the work is staged.
        CommitError: no version could be made; the work is staged.
        Interrupted: Ctrl-C or SIGTERM; the work so far is staged.
    """
    started = time.monotonic()
    found = [find(tagger) if isinstance(tagger, str) else tagger for tagger in taggers]
    check_together(found)
    location = Location.of(uri, storage_options)
    run = _plan(location, open_dataset(location), found, rows, settings)
    if settings.dry_run or not run.tasks:
        return _report(run, started)
    with pinned(location, run.compute.version, run.jobs[0].digest):
        done = _computed(run, engine, settings)
        return replace(_committed(run, done, settings, started), seconds=time.monotonic() - started)


@dataclass(frozen=True)
class Run:
    """All that a run needs to know, before it begins."""

    compute: Compute
    image: str
    """The image column."""
    tasks: tuple[Task, ...]
    staged: tuple[tuple[Part, ...], ...]
    """For each job, what an earlier, broken run left."""
    rows: int
    """Rows selected."""
    missing: int
    """Rows selected that lack committed labels."""

    @property
    def jobs(self) -> tuple[Job, ...]:
        """One per tagger."""
        return self.compute.jobs


def _plan(
    location: Location, dataset: LanceDataset, taggers: Sequence[Tagger], rows: Rows, settings: TagSettings
) -> Run:
    image = image_column(dataset.schema, settings.column)
    inputs = _inputs(dataset.schema, taggers, image, settings.inputs)
    jobs = tuple(job_of(tagger, inputs) for tagger in taggers)
    labelled = tuple(has_columns(job, dataset.schema) for job in jobs)
    if rows.where:
        check_filter(dataset, rows.where)
    ranges = ranges_of(dataset, image)
    selected = _count(dataset, rows.where)
    lacking = [sql.quote(job.digest_column) + " is null" for job in jobs] if all(labelled) else []
    missing_filter = " and ".join(f"({f})" for f in (rows.where, " or ".join(lacking)) if f) or None
    missing = _count(dataset, missing_filter) if lacking else selected
    compute = Compute(
        location,
        dataset.version,
        jobs,
        inputs,
        rows.where,
        labelled,
        settings.device,
        settings.threads,
        settings.batch_size,
        _row_bytes(dataset),
    )
    if rows.limit is not None and rows.limit < missing:
        end = _end(dataset, missing_filter, rows.limit)
        selected, missing = selected - missing + rows.limit, rows.limit
    else:
        end = None
    if missing == 0:
        return Run(compute, image, (), (), selected, 0)
    staged = tuple(tuple(Staging(location, job.digest).parts()) for job in jobs)
    indexes = [Index.of(parts) for parts in staged]
    chunks = list(chunks_of(ranges, _chunk_rows(taggers, settings), end))
    tasks = tuple(Task(group, tuple(_narrowed(index, group) for index in indexes)) for group in grouped(chunks))
    return Run(compute, image, tasks, staged, selected, missing)


def _computed(run: Run, engine: Engine, settings: TagSettings) -> list[Done]:
    if settings.threads is None:
        workers = getattr(engine, "workers", 1)
        run = replace(run, compute=replace(run.compute, threads=max(1, (os.cpu_count() or 1) // workers)))
    staging = run.compute.staging(0)
    try:
        with watching(staging, run.missing, settings.progress):
            return list(engine.run(run.compute, run.tasks))
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; {staging.rows_staged()} of {run.missing} rows are staged, the same command goes on from there"
        ) from None


def _committed(run: Run, done: list[Done], settings: TagSettings, started: float) -> TagReport:
    location, jobs = run.compute.location, run.jobs
    staged = []
    for number, job in enumerate(jobs):
        parts = [*run.staged[number], *(part for one in done for part in one.parts[number])]
        staged.append(StagedJob(job, Staging(location, job.digest), Index.of(parts)))
    errors, failed = _errors(run, staged, settings.max_error_rate)
    assembly = Assembly(location, run.image, staged)
    version = None
    if any(one.index.by_file for one in staged):
        try:
            version = commit_columns(location, assembly.columns, assembly.prepare, _properties(run)).number
        finally:
            assembly.drop_unused()
    written = sum(unit.file.size for unit in assembly.used)
    for one in staged:
        one.staging.clear()
    return _report(run, started, done, version=version, errors=errors, failed=failed, written=written)


def _errors(run: Run, staged: Sequence[StagedJob], most: float) -> tuple[tuple[ErrorCount, ...], int]:
    """Count the reasons in what is about to be committed, and refuse it where too many rows failed."""
    counts: Counter[tuple[str, str]] = Counter()
    failed: set[tuple[str, int]] = set()
    rows = 0
    for one in staged:
        name = one.job.error_column
        in_job = 0
        for file, parts in one.index.by_file.items():
            for table in staged_labels(one.staging, parts, [name]):
                in_job += len(table)
                bad = table.filter(pc.is_valid(table[name]))
                counts.update((one.job.name, reason) for reason in bad[name].to_pylist())
                failed.update((file, offset) for offset in bad["offset"].to_pylist())
        rows = max(rows, in_job)
    errors = tuple(ErrorCount(tagger, reason, n) for (tagger, reason), n in counts.most_common())
    share = len(failed) / rows if rows else 0.0
    if failed and (share > most or len(failed) == rows):
        raise TooManyErrors(
            f"{len(failed)} of {rows} rows failed, most often with {errors[0].reason!r} (tagger {errors[0].tagger}); "
            "nothing is committed and the work is staged: mend the cause, or allow more with --max-error-rate"
        )
    return errors, len(failed)


def _report(
    run: Run,
    started: float,
    done: Sequence[Done] = (),
    *,
    version: int | None = None,
    errors: tuple[ErrorCount, ...] = (),
    failed: int = 0,
    written: int = 0,
) -> TagReport:
    computed = sum(one.computed for one in done)
    seconds = time.monotonic() - started
    return TagReport(
        uri=run.compute.location.uri,
        jobs=tuple(job.digest for job in run.jobs),
        version_before=run.compute.version,
        version_after=run.compute.version if version is None else version,
        rows=run.rows,
        computed=computed,
        skipped=run.rows - (computed if done else run.missing),
        failed=failed,
        columns=tuple(name for job in run.jobs for name in job.columns.names),
        errors=errors,
        bytes_read=sum(one.bytes_read for one in done),
        bytes_written=written + sum(one.bytes_written for one in done),
        seconds=seconds,
        rows_per_second=computed / seconds,
    )


def _properties(run: Run) -> dict[str, str]:
    return {
        "laketag.job": ",".join(job.digest for job in run.jobs),
        "laketag.taggers": ",".join(job.name for job in run.jobs),
        "laketag.rows": str(run.missing),
    }


def _inputs(
    schema: pa.Schema, taggers: Sequence[Tagger], image: str, given: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    roles = dict.fromkeys(role for tagger in taggers for role in tagger.reads)
    unknown = [role for role in given if role not in roles]
    if unknown:
        raise JobRefused(f"no tagger of this run reads {unknown[0]!r}; they read {', '.join(roles)}")
    columns = {role: image if role in (IMAGE, BYTES) else given.get(role, role) for role in roles}
    require_columns(schema, list(columns.values()))
    return tuple(columns.items())


def _count(dataset: LanceDataset, where: str | None) -> int:
    return int(dataset.count_rows(filter=sql.for_filter(where, dataset.schema.names) if where else None))


def _end(dataset: LanceDataset, where: str | None, limit: int) -> End:
    """Find the last of the first `limit` rows: what a limit comes down to, for every worker alike."""
    last = np.uint64(0)
    seen = 0
    for batch in scan(dataset, [], [], where=where):
        addresses = batch["_rowaddr"].to_numpy()[: limit - seen]
        if len(addresses):
            last = addresses[-1]
        seen += len(addresses)
        if seen >= limit:
            break
    return End(int(last) >> 32, int(last) & 0xFFFFFFFF)


def _chunk_rows(taggers: Sequence[Tagger], settings: TagSettings) -> int:
    if settings.chunk_rows is not None:
        if settings.chunk_rows < 1:
            raise JobRefused(f"--chunk-rows is {settings.chunk_rows}; give a whole number from 1 on")
        return settings.chunk_rows
    batch = settings.batch_size or max(batch_size_of(tagger) for tagger in taggers)
    return max(_LEAST_CHUNK_ROWS, _BATCHES_PER_CHUNK * batch)


def _row_bytes(dataset: LanceDataset) -> int:
    """Estimate a row's size from the data files of the first fragment."""
    for fragment in dataset.get_fragments():
        metadata = fragment.metadata
        return sum(file.file_size_bytes or 0 for file in metadata.files) // max(1, metadata.physical_rows)
    return 0


def _narrowed(index: Index, group: Sequence[Chunk]) -> Index:
    return index.within([rows for chunk in group for rows in chunk.ranges])
