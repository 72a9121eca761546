"""What a run of `tag` sets out to do: which rows lack labels, and the tasks that give them some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from laketag.errors import ColumnError, JobRefused, WrongUsage
from laketag.lake import sql
from laketag.lake.dataset import fragments_of, image_column, image_columns, require_columns
from laketag.lake.location import Location
from laketag.lake.reading import check_filter, ranges_of, row_bytes, scan, sparing
from laketag.taggers.protocol import BYTES, IMAGE, Tagger, batch_size_of
from laketag.tagging.checked import Checked, incomplete, read_checked, suspects
from laketag.tagging.compute import Compute
from laketag.tagging.job import Job, columns_of_others, has_columns, job_of
from laketag.tagging.moving import follow
from laketag.tagging.outdated import outdated
from laketag.tagging.plan import Chunk, End, chunks_of, grouped, is_in_slice
from laketag.tagging.settings import Rows, TagSettings
from laketag.tagging.staging import AGAIN, LABELS, Index
from laketag.tagging.task import Task

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

_BATCHES_PER_CHUNK = 32
_LEAST_CHUNK_ROWS = 1024


@dataclass(frozen=True)
class Look:
    """What there is to do in a version of the dataset, before anything is held for it."""

    dataset: LanceDataset
    """Pinned to the version."""
    compute: Compute
    rows: int
    """Rows selected."""
    missing: int
    """Rows selected that lack committed labels."""
    end: End | None
    """Where a limit cuts."""
    checked: tuple[Checked, ...]
    """For each job, the sources known before the run."""
    suspects: tuple[frozenset[int], ...]
    """For each job, the fragments whose labels may be stale."""
    is_whole: bool
    """Whether the run goes over all rows."""

    @property
    def jobs(self) -> tuple[Job, ...]:
        """One per tagger."""
        return self.compute.jobs

    @property
    def has_work(self) -> bool:
        """Whether some row lacks a label, or may have a stale one."""
        return self.missing > 0 or any(self.suspects)


@dataclass(frozen=True)
class Run:
    """All that a run needs to know, before it begins."""

    look: Look
    tasks: tuple[Task, ...] = ()
    staged: tuple[Index, ...] = ()
    """For each job, what an earlier, broken run left."""
    share: float = 1.0
    """Of the rows of all slices, about those of this one."""

    @property
    def compute(self) -> Compute:
        """What workers do with a task."""
        return self.look.compute

    @property
    def jobs(self) -> tuple[Job, ...]:
        """One per tagger."""
        return self.look.jobs


@dataclass(frozen=True)
class Jobs:
    """The jobs of a run, and what they are about."""

    jobs: tuple[Job, ...]
    """One per tagger."""
    inputs: tuple[tuple[str, str], ...]
    """(role, column) of everything that the taggers read."""
    work: str = LABELS
    """What kind of work it is; a kind other than `LABELS` counts no label that is there already."""


def jobs_of(schema: pa.Schema, taggers: Sequence[Tagger], rows: Rows, settings: TagSettings) -> Jobs:
    """Say which jobs some taggers are on a dataset.

    Raises:
        ColumnError: a column that a tagger reads is missing or ambiguous, or two differ but by case.
        JobRefused: columns of their names were made by something else, or are what they read.
    """
    inputs = inputs_of(schema, taggers, settings)
    jobs = tuple(job_of(tagger, inputs) for tagger in taggers)
    others = [name for job in jobs for name in columns_of_others(job, schema)]
    for name in others:
        # A recompute would drop it, and so is not what is advised.
        if name in dict(inputs).values() or image_columns(schema) == [name]:
            raise JobRefused(
                f"column {name!r} is what labels are made from, and a tagger of this run would make one of "
                "that name; give its column another name, or run the taggers one after the other"
            )
    if not rows.recompute:
        return Jobs(jobs, inputs)
    if settings.commit_every:
        raise WrongUsage(
            "--recompute with --commit-every could not tell after a crash which rows it has committed, and "
            "would compute them once more; leave one of them out"
        )
    if others and not (rows.is_whole and (settings.slice is None or settings.stage_only)):
        raise JobRefused(
            f"--recompute would replace {', '.join(others)}, which something else made, for a part of the "
            "rows only; leave --where, --limit and --slice out, or rename these columns first"
        )
    return Jobs(jobs, inputs, AGAIN)


def look(location: Location, dataset: LanceDataset, todo: Jobs, *, rows: Rows, settings: TagSettings) -> Look:
    """Find out which rows lack labels, without reading an image.

    Raises:
        BadSQL: the filter cannot be run.
    """
    jobs, counts = todo.jobs, todo.work == LABELS
    labelled = tuple(counts and has_columns(job, dataset.schema) for job in jobs)
    checked = tuple(read_checked(location, job) for job in jobs)
    lacking = _Lacking.of(dataset, jobs, checked, rows) if all(labelled) else None
    selected, missing, end = _selection(dataset, rows, lacking)
    suspect = tuple(
        suspects(dataset, job, known) if has else frozenset()
        for job, known, has in zip(jobs, checked, labelled, strict=True)
    )
    compute = Compute(
        location,
        dataset.version,
        jobs,
        todo.inputs,
        rows.where,
        labelled,
        work=todo.work,
        retry_errors=rows.retry_errors,
        devices=settings.devices,
        threads=settings.threads,
        batch_size=settings.batch_size,
        row_bytes=row_bytes(dataset),
    )
    is_whole = rows.is_whole and settings.slice is None
    return Look(dataset, compute, selected, missing, end, checked, suspect, is_whole)


def plan(seen: Look, settings: TagSettings, *, counts_staged: bool = True) -> Run:
    """Cut what there is to do into tasks.

    Args:
        seen: what there is to do.
        settings: the size of chunks, and the slice.
        counts_staged: whether what a broken run left is looked for; without it, it is to be done again.
    """
    if not seen.has_work and not (settings.commit_only and counts_staged):
        return Run(seen)
    dataset, jobs = seen.dataset, seen.jobs
    staged = tuple(
        _staged(seen, number, settings) if counts_staged else Index() for number in range(len(jobs))
    )
    own = tuple(index.of_slice(settings.slice) for index in staged)
    # What followed a compaction may be any slice's: one that commits nothing counts it, whosever it is.
    known = staged if settings.stage_only else own
    ranges = {reads: ranges_of(dataset, reads) for reads in {job.reads for job in jobs}}
    sources = [{part.fragment: part.source for part in ranges[job.reads]} for job in jobs]
    chunk_rows = _chunk_rows([job.tagger for job in jobs], settings)
    every = list(chunks_of(ranges[jobs[0].reads], chunk_rows, seen.end))
    chunks = [chunk for chunk in every if is_in_slice(chunk.key, settings.slice)]
    tasks = tuple(_task(group, known, seen.suspects, sources) for group in grouped(chunks))
    share = sum(chunk.rows for chunk in chunks) / max(1, sum(chunk.rows for chunk in every))
    return Run(seen, tasks, own, share)


def inputs_of(
    schema: pa.Schema, taggers: Sequence[Tagger], settings: TagSettings
) -> tuple[tuple[str, str], ...]:
    """Find the column for each role that taggers read, as (role, column)."""
    given = settings.inputs
    roles = dict.fromkeys(role for tagger in taggers for role in tagger.reads)
    images = [role for role in roles if role in (IMAGE, BYTES)]
    unknown = [role for role in given if role not in roles]
    if unknown:
        raise WrongUsage(f"no tagger of this run reads {unknown[0]!r}; they read {', '.join(roles)}")
    if any(role in given for role in images):
        raise WrongUsage("--input cannot name the image column; give it with --column")
    if settings.column is not None and not images:
        raise WrongUsage(
            f"--column is {settings.column}, but no tagger of this run reads an image; they read "
            f"{', '.join(roles)}: give --input ROLE=COLUMN"
        )
    image = image_column(schema, settings.column) if images else ""
    columns = {role: image if role in images else given.get(role, role) for role in roles}
    for role, column in columns.items():
        try:
            require_columns(schema, [column])
        except ColumnError as error:
            ways = "" if role in given else f" (--input {role}=COLUMN names another)"
            raise ColumnError(f"{error}{ways}") from error
    return tuple(columns.items())


@dataclass(frozen=True)
class _Lacking:
    """Where rows may lack labels of some job, all of which have their columns."""

    where: str
    """A filter that finds them."""
    fragments: frozenset[int]
    """Where there may be some."""

    @classmethod
    def of(
        cls, dataset: LanceDataset, jobs: Sequence[Job], checked: Sequence[Checked], rows: Rows
    ) -> _Lacking:
        where = " or ".join(_lacks(job, rows.retry_errors) for job in jobs)
        if rows.retry_errors:  # a failed row has a label, too: its reason
            return cls(where, frozenset(each.id for each in fragments_of(dataset)))
        return cls(where, incomplete(dataset, jobs, checked))


def _selection(dataset: LanceDataset, rows: Rows, lacking: _Lacking | None) -> tuple[int, int, End | None]:
    """Count the rows selected and those among them without labels; `end` is where a limit cuts."""
    if rows.where:
        check_filter(dataset, rows.where)
    selected = missing = _count(dataset, rows.where)
    filters = rows.where
    if lacking is not None:
        filters = f"({rows.where}) and ({lacking.where})" if rows.where else lacking.where
        missing = _count(dataset, filters, lacking.fragments)
    if rows.limit is None or rows.limit >= missing:
        return selected, missing, None
    return selected - missing + rows.limit, rows.limit, _end(dataset, filters, rows.limit)


def _count(dataset: LanceDataset, where: str | None, fragments: frozenset[int] | None = None) -> int:
    named = sql.for_filter(where, dataset.schema.names) if where else None
    some: list[Any] | None = None
    if fragments is not None and len(fragments) < len(fragments_of(dataset)):
        some = [dataset.get_fragment(fragment) for fragment in sorted(fragments)]
    if named is None and some is None:
        return int(dataset.count_rows())
    if some == []:  # which would mean all of them
        return 0
    options = sparing(dataset, where)
    scanner = dataset.scanner(columns=[], with_row_id=True, filter=named, fragments=some, **options)
    return int(scanner.count_rows())


def _end(dataset: LanceDataset, where: str | None, limit: int) -> End:
    """Find the last of the first `limit` rows: what a limit comes down to, for every worker alike."""
    last = 0
    seen = 0
    for batch in scan(dataset, [], [], where=where):
        addresses = batch["_rowaddr"].to_numpy()[: limit - seen]
        if len(addresses):
            last = int(addresses[-1])
        seen += len(addresses)
        if seen >= limit:
            break
    return End(last >> 32, last & 0xFFFFFFFF)


def _chunk_rows(taggers: Sequence[Tagger], settings: TagSettings) -> int:
    if settings.chunk_rows is not None:
        return settings.chunk_rows
    batch = settings.batch_size or max(batch_size_of(tagger) for tagger in taggers)
    # What a crash costs is rows times what a row takes, so the slowest tagger of the run decides.
    least = min(int(getattr(tagger, "chunk_rows", _LEAST_CHUNK_ROWS)) for tagger in taggers)
    return max(least, _BATCHES_PER_CHUNK * batch)


def _task(
    group: tuple[Chunk, ...],
    indexes: Sequence[Index],
    suspect: Sequence[frozenset[int]],
    sources: Sequence[Mapping[int, str]],
) -> Task:
    fragments = frozenset(rows.fragment for chunk in group for rows in chunk.ranges)
    task = Task(
        group,
        tuple({fragment: one[fragment] for fragment in fragments} for one in sources),
        tuple(one & fragments for one in suspect),
    )
    staged = tuple(
        index.within(task.ranges_of(job)) if index.by_source else index for job, index in enumerate(indexes)
    )
    return replace(task, staged=staged)


def _staged(seen: Look, number: int, settings: TagSettings) -> Index:
    """Say where the staged labels of a job lie that count; those of rows that others moved come along."""
    dataset, job, staging = seen.dataset, seen.jobs[number], seen.compute.staging(number)
    index = follow(dataset, job, staging, Index.of(staging.parts()))
    if not seen.compute.labelled[number]:
        return index
    return index.plus(outdated(dataset, job, staging, index.of_slice(settings.slice)))


def _lacks(job: Job, retry_errors: bool) -> str:
    lacks = f"{sql.quote(job.digest_column)} is null"
    return f"{lacks} or {sql.quote(job.error_column)} is not null" if retry_errors else lacks
