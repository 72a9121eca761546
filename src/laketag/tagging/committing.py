"""From what is staged to a version, and what there is to say of the rows in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from laketag.engines.protocol import Progress
from laketag.errors import JobRefused, TooManyErrors
from laketag.lake import sql
from laketag.lake.changing import change
from laketag.lake.committing import commit_columns
from laketag.lake.dataset import fragments_of, open_dataset
from laketag.lake.reading import live_addresses, ranges_of, whole
from laketag.lake.session import many
from laketag.lake.transactions import COLUMNS_KEY, JOB_KEY, ROWS_KEY
from laketag.tagging.assembly import Assembly, StagedJob
from laketag.tagging.job import Job, has_columns
from laketag.tagging.preparing import Run
from laketag.tagging.report import ErrorCount, count_reasons
from laketag.tagging.settings import TagSettings
from laketag.tagging.staging import LABELS, OFFSET, Index, Part, Reader, neighbours
from laketag.tagging.task import Done

if TYPE_CHECKING:
    from laketag.lake.committing import FragmentColumns
    from laketag.lake.dataset import LanceDataset

ByJob = list[tuple[StagedJob, Sequence[Part]]]
"""What jobs staged for the rows of one fragment."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    version: int
    """The dataset's version after it."""
    errors: tuple[ErrorCount, ...] = ()
    """The most frequent first."""
    failed: int = 0
    """Rows with a reason."""
    written: int = 0
    """Bytes of column files."""
    fragments: int = 0
    """Fragments that got labels; 0 where every row that has staged labels is gone."""
    reserved: int | None = None
    """The version that made columns empty, where they could not be made with their labels."""
    rows: int = 0
    """Rows whose staged labels were committed."""
    own: frozenset[int] = frozenset()
    """The versions that the run made."""
    complete: frozenset[tuple[str, str]] = frozenset()
    """(digest column, data file) wherever each row of the file has a label."""

    def plus(self, later: Outcome) -> Outcome:
        """Add what a later commit of the same run came to."""
        counts = Counter({(e.tagger, e.reason): e.rows for e in self.errors})
        count_reasons(counts, {(e.tagger, e.reason): e.rows for e in later.errors})
        return Outcome(
            max(self.version, later.version),
            _counted(counts),
            self.failed + later.failed,
            self.written + later.written,
            self.fragments + later.fragments,
            self.reserved or later.reserved,
            self.rows + later.rows,
            self.own | later.own,
            self.complete | later.complete,
        )


def commit_done(run: Run, done: Iterable[Done], settings: TagSettings, own: frozenset[int]) -> Outcome:
    """Commit what finished tasks have staged, while others are still at work."""
    index = [Index.of(part for one in done for part in one.parts[n]) for n in range(len(run.jobs))]
    return _commit(run, _staged_jobs(run, index, own), settings)


def commit_rest(run: Run, done: Iterable[Done], settings: TagSettings, own: frozenset[int]) -> Outcome:
    """Commit all that is staged: by finished tasks, by an earlier run, by workers that died."""
    indexes = []
    for number, before in enumerate(run.staged):
        index = before.plus(part for one in done for part in one.parts[number])
        # What a worker staged of a task before it died is in no result.
        rest = Index.of(run.compute.staging(number).parts(but=index.names)).of_slice(settings.slice)
        indexes.append(index.plus(rest.parts))
    staged = _staged_jobs(run, indexes, own)
    if settings.commit_only and not any(one.index.by_source for one in staged):
        names = ", ".join(job.name for job in run.jobs)
        raise JobRefused(f"nothing is staged for {names}; run it without --commit-only first")
    return _commit(run, staged, settings)


def _staged_jobs(run: Run, indexes: Sequence[Index], own: frozenset[int]) -> list[StagedJob]:
    made = {name for job in run.jobs for name in job.columns.names}
    # Versions of the run's own move no row, so that later commits need not look at them; but where a tagger
    # reads what another one makes, they may change what its labels are made from.
    still = frozenset() if any(not made.isdisjoint(job.reads) for job in run.jobs) else own
    return [
        StagedJob(job, run.compute.staging(number), index, still=still)
        for number, (job, index) in enumerate(zip(run.jobs, indexes, strict=True))
    ]


def _commit(run: Run, staged: Sequence[StagedJob], settings: TagSettings) -> Outcome:
    location, before = run.compute.location, run.compute.version
    errors, failed, rows = _judged(run.look.dataset, staged, settings.max_error_rate)
    if not any(one.index.by_source for one in staged):
        return Outcome(before)
    assembly = Assembly(location, staged, _teller(settings.progress))

    def prepare(dataset: LanceDataset) -> list[FragmentColumns]:
        for job in run.jobs:
            has_columns(job, dataset.schema)  # another maker may have come first: it refuses then
        return assembly.prepare(dataset)

    try:
        _make_way(assembly, run.compute.work, commit_only=settings.commit_only)
        made = commit_columns(location, assembly.columns, prepare, _properties(run, rows))
    finally:
        assembly.drop_unused()
    if made.fragments:
        for one in assembly.jobs:
            one.staging.clear(one.index)
    written = sum(unit.file.size for unit in assembly.used)
    version = made.number if made.fragments else before
    own = frozenset({made.number} if made.fragments else ())
    digests = {job.digest_column for job in run.jobs}
    full = frozenset((name, one.file.name) for one in assembly.used for name in digests & {*one.file.full})
    return Outcome(version, errors, failed, written, made.fragments, made.reserved, rows, own, full)


def _teller(report: Callable[[Progress], None] | None) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        if report is not None:
            report(Progress(done, total, "fragments", "committing"))

    return tell


def _make_way(assembly: Assembly, work: str, *, commit_only: bool) -> None:
    """Drop the columns of others that a recompute replaces: a version of its own, and restorable.

    In one transaction with the new columns they could not go: Lance gives no schema that drops and adds.
    """
    dataset = open_dataset(assembly.location)
    if work == LABELS or not assembly.in_the_way(dataset):
        return
    assembly.prepare(dataset)  # all that follows them is made and verified before they go
    lacking = assembly.rows_without() if commit_only else 0
    if lacking:
        raise JobRefused(
            f"{', '.join(assembly.in_the_way(dataset))} would go, which something else made, and {lacking} "
            "rows have no staged labels to follow; stage them first, with --recompute --stage-only"
        )

    def drop(current: LanceDataset) -> None:
        names = assembly.in_the_way(current)
        if names:
            current.drop_columns(names)

    change(assembly.location, drop, lambda _, after: not assembly.in_the_way(after))


def _judged(
    dataset: LanceDataset, staged: Sequence[StagedJob], most: float | None
) -> tuple[tuple[ErrorCount, ...], int, int]:
    """Give the reasons in what is about to be committed, failed rows and all rows.

    Raises:
        TooManyErrors: more failed than may.
    """
    counts: Counter[tuple[str, str]] = Counter()
    failed = 0
    thinned = frozenset(each.id for each in fragments_of(dataset) if each.num_deletions)
    rows, unclear = _told(dataset, staged, thinned)
    places = list(neighbours(unclear, lambda each: chain(*(parts for _, parts in each[1]))))
    for each in many(staged[0].staging.location, partial(_counts, dataset, thinned), places):
        count_reasons(counts, each[0])
        failed += each[1]
        rows += each[2]
    errors = _counted(counts)
    if most is None:
        # Where the tagger has labelled rows before, a few new ones may all be bad.
        is_too_many = failed == rows and not any(_has_labels(dataset, one) for one in staged)
    else:
        is_too_many = failed > most * rows
    if failed and is_too_many:
        raise TooManyErrors(
            f"{failed:,} of {rows:,} rows failed, most often with {errors[0].reason!r} (tagger "
            f"{errors[0].tagger}); nothing is committed and the work is staged: mend the cause and run it "
            f"again with --retry-errors, or allow it with --max-error-rate {failed / rows:.2g}"
        )
    return errors, failed, rows


def _told(
    dataset: LanceDataset, staged: Sequence[StagedJob], thinned: frozenset[int]
) -> tuple[int, list[tuple[int, ByJob]]]:
    """Count the rows of places that need no look, and list the others, each with its fragment.

    Of what was staged in an earlier version, rows may be gone, or have moved, where some are deleted.
    """
    rows = 0
    unclear: list[tuple[int, ByJob]] = []
    for fragment, place in _by_place(dataset, staged).items():
        is_older = any(part.version < dataset.version for _, parts in place for part in parts)
        told = None if is_older and fragment in thinned else _rows_told(place)
        rows += told or 0
        if told is None:
            unclear.append((fragment, place))
    return rows, unclear


def _rows_told(place: ByJob) -> int | None:
    """Count a place's rows from what its parts tell; None where some failed, or where that takes a look."""
    spans = {tuple(sorted((p.start, p.stop, p.rows, p.failed) for p in parts)) for _, parts in place}
    if len(spans) > 1:
        return None  # jobs have staged different rows
    [parts] = spans
    if any(failed for *_, failed in parts) or any(a[1] > b[0] for a, b in pairwise(parts)):
        return None
    if len(place) > 1 and any(rows < stop - start for start, stop, rows, _ in parts):
        return None  # of as many rows, they may be others
    return sum(rows for _, _, rows, _ in parts)


def _counts(
    dataset: LanceDataset, thinned: frozenset[int], places: Sequence[tuple[int, ByJob]]
) -> tuple[Counter[tuple[str, str]], int, int]:
    """Count the reasons at some places, the rows that failed there, and all rows."""
    counts: Counter[tuple[str, str]] = Counter()
    failed = rows = 0
    readers: dict[str, Reader] = {}
    for fragment, place in places:
        live = live_addresses(dataset, [whole(dataset, fragment)]) if fragment in thinned else None
        labelled: npt.NDArray[np.uint32] = np.empty(0, np.uint32)
        failed_here: set[int] = set()
        for one, parts in place:
            reader = readers.setdefault(one.job.digest, Reader(one.staging, [one.job.error_column]))
            offsets, reasons = _latest(one.job, reader, parts, live)
            labelled = np.union1d(labelled, offsets)
            counts.update((one.job.name, reason) for reason in reasons.values())
            failed_here.update(reasons)
        rows += len(labelled)
        failed += len(failed_here)
    return counts, failed, rows


def _by_place(dataset: LanceDataset, staged: Sequence[StagedJob]) -> dict[int, ByJob]:
    """Bring together what jobs staged for the same rows of a fragment, whatever columns each of them reads.

    Of rows that were moved, what is staged for where they lay before is left out.
    """
    places: dict[int, ByJob] = {}
    for one in staged:
        fragments = {part.source: part.fragment for part in ranges_of(dataset, one.job.reads)}
        for source, parts in one.index.by_source.items():
            if source in fragments:
                places.setdefault(fragments[source], []).append((one, parts))
    return places


def _has_labels(dataset: LanceDataset, one: StagedJob) -> bool:
    if one.staging.work != LABELS or not has_columns(one.job, dataset.schema):
        return False
    error, digest = map(sql.quote, one.job.states)
    good = dataset.scanner(
        columns=[], with_row_id=True, filter=f"{digest} is not null and {error} is null", limit=1
    )
    return int(good.to_table().num_rows) > 0


def _counted(counts: Counter[tuple[str, str]]) -> tuple[ErrorCount, ...]:
    return tuple(ErrorCount(tagger, reason, rows) for (tagger, reason), rows in counts.most_common())


def _latest(
    job: Job, reader: Reader, parts: Sequence[Part], live: npt.NDArray[np.int64] | None
) -> tuple[npt.NDArray[np.uint32], dict[int, str]]:
    """Give the rows of a source that have staged labels, and the reasons of those that failed.

    Of two labels of a row, the newer one counts, as it does in what is committed.
    """
    offsets: list[npt.NDArray[np.uint32]] = []
    reasons: dict[int, str] = {}
    for table in reader.tables(sorted(parts, key=lambda part: part.age)):
        offsets.append(table[OFFSET].to_numpy())
        if reasons:
            for offset in set(reasons).intersection(offsets[-1].tolist()):
                del reasons[offset]
        bad = table.filter(pc.is_valid(table[job.error_column]))
        reasons.update(zip(bad[OFFSET].to_pylist(), bad[job.error_column].to_pylist(), strict=True))
    found = np.concatenate(offsets)
    if live is not None:
        found = found[np.isin(found, live & 0xFFFFFFFF)]
        reasons = {offset: reasons[offset] for offset in reasons.keys() & set(found.tolist())}
    return found, reasons


def _properties(run: Run, rows: int) -> dict[str, str]:
    return {
        JOB_KEY: ",".join(job.digest for job in run.jobs),
        "laketag.taggers": ",".join(job.name for job in run.jobs),
        "laketag.work": run.compute.work,
        ROWS_KEY: str(rows),
        COLUMNS_KEY: ",".join(name for job in run.jobs for name in job.columns.names),
    }
