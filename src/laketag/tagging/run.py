"""`tag`: the line from plan to commit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from laketag.engines.local import Local
from laketag.engines.protocol import Engine
from laketag.errors import Interrupted, JobRefused, TooManyErrors
from laketag.lake.committing import commit_columns
from laketag.lake.dataset import open_dataset
from laketag.lake.lease import leased
from laketag.lake.location import Location
from laketag.taggers.pipeline import cores
from laketag.taggers.protocol import Tagger, check_together
from laketag.taggers.spec import find
from laketag.tagging.assembly import Assembly, StagedJob
from laketag.tagging.checked import known_after, write_checked
from laketag.tagging.compute import Done
from laketag.tagging.pin import pinned
from laketag.tagging.preparing import Run, plan
from laketag.tagging.settings import ErrorCount, Rows, TagReport, TagSettings
from laketag.tagging.staging import OFFSET, Index, Part, Staging, staged_labels
from laketag.tagging.watching import watching


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
    taggers = [taggers] if isinstance(taggers, str) else taggers
    found = [find(tagger) if isinstance(tagger, str) else tagger for tagger in taggers]
    check_together(found)
    location = Location.of(uri, storage_options)
    look = plan(location, open_dataset(location), found, rows, settings, is_look=True)
    if settings.dry_run or not look.tasks:
        return _report(look, Outcome(look.compute.version), started)
    with _leased(look, settings):
        # Planned again: until the lease was held, another run of the job may have ended.
        run = plan(location, open_dataset(location), found, rows, settings)
        outcome = _done(run, engine, settings) if run.tasks else Outcome(run.compute.version)
    return _report(run, outcome, started)


def _done(run: Run, engine: Engine, settings: TagSettings) -> Outcome:
    with pinned(run.compute.location, run.compute.version, run.jobs[0].digest, settings.part):
        done = () if settings.commit_only else _computed(run, engine, settings)
        if settings.stage_only:
            return Outcome(run.compute.version, done)
        outcome = _committed(run, done, settings)
        if not settings.commit_only:
            _note_what_is_known(run)
    return outcome


@contextmanager
def _leased(run: Run, settings: TagSettings) -> Iterator[None]:
    with ExitStack() as held:
        for job in run.jobs:
            name = f"tagger {job.name!r}"
            held.enter_context(leased(run.compute.location, job.digest, name, settings.part))
        yield


def _computed(run: Run, engine: Engine, settings: TagSettings) -> tuple[Done, ...]:
    if settings.threads is None:
        workers = getattr(engine, "workers", 1)
        run = replace(run, compute=replace(run.compute, threads=max(1, cores() // workers)))
    staging = run.compute.staging(0)
    try:
        with watching(staging, run.missing, settings.progress):
            done = tuple(engine.run(run.compute, run.tasks))
    except KeyboardInterrupt:
        raise Interrupted(_stopped(staging, run)) from None
    if not all(one.is_whole for one in done):
        raise Interrupted(f"a worker was told to stop, so the run {_stopped(staging, run)}")
    return done


def _stopped(staging: Staging, run: Run) -> str:
    return (
        f"stopped; {staging.rows_staged()} of {run.missing} rows are staged, "
        "and the same command goes on from there"
    )


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    version: int
    """The dataset's version after it."""
    done: tuple[Done, ...] = ()
    errors: tuple[ErrorCount, ...] = ()
    failed: int = 0
    """Rows with a reason."""
    written: int = 0
    """Bytes of column files."""


def _committed(run: Run, done: tuple[Done, ...], settings: TagSettings) -> Outcome:
    location, version = run.compute.location, run.compute.version
    staged = []
    for number, job in enumerate(run.jobs):
        staging = Staging(location, job.digest)
        index = run.staged[number].plus(part for one in done for part in one.parts[number])
        # What a worker staged of a task before it died is in no result.
        rest = Index.of(staging.parts(but=index.names)).of_slice(settings.slice)
        staged.append(StagedJob(job, staging, index.plus(rest.parts)))
    if settings.commit_only and not any(one.index.by_file for one in staged):
        names = ", ".join(job.name for job in run.jobs)
        raise JobRefused(f"nothing is staged for {names}; run it without --commit-only first")
    errors, failed = _errors(staged, settings.max_error_rate)
    assembly = Assembly(location, run.image, staged)
    if any(one.index.by_file for one in staged):
        try:
            version = commit_columns(location, assembly.columns, assembly.prepare, _properties(run)).number
        finally:
            assembly.drop_unused()
    for one in assembly.jobs:
        one.staging.clear(one.index)
    return Outcome(version, done, errors, failed, sum(unit.file.size for unit in assembly.used))


def _note_what_is_known(run: Run) -> None:
    location = run.compute.location
    dataset = open_dataset(location, run.compute.version)
    for job, checked in zip(run.jobs, run.checked, strict=True):
        known = known_after(dataset, job, run.image, checked, is_whole=run.is_whole)
        if known.files != checked.files:
            write_checked(location, job, known)


def _errors(staged: Sequence[StagedJob], most: float | None) -> tuple[tuple[ErrorCount, ...], int]:
    """Count the reasons in what is about to be committed, and refuse it where too many rows failed."""
    counts: Counter[tuple[str, str]] = Counter()
    failed: set[tuple[str, int]] = set()
    rows = 0
    for one in staged:
        in_job = 0
        for file, parts in one.index.by_file.items():
            labelled, reasons = _latest(one, parts)
            in_job += labelled
            counts.update((one.job.name, reason) for reason in reasons.values())
            failed.update((file, offset) for offset in reasons)
        rows = max(rows, in_job)
    errors = tuple(ErrorCount(tagger, reason, n) for (tagger, reason), n in counts.most_common())
    is_too_many = len(failed) == rows if most is None else len(failed) > most * rows
    if failed and is_too_many:
        raise TooManyErrors(
            f"{len(failed)} of {rows} rows failed, most often with {errors[0].reason!r} (tagger "
            f"{errors[0].tagger}); nothing is committed and the work is staged: mend the cause, or allow it "
            f"with --max-error-rate {len(failed) / rows:.2g}"
        )
    return errors, len(failed)


def _latest(one: StagedJob, parts: Sequence[Part]) -> tuple[int, dict[int, str]]:
    """Count the rows of an image file that have staged labels, and give the reasons of those that failed.

    Of two labels of a row, the newer one counts, as it does in what is committed.
    """
    offsets: list[npt.NDArray[np.int64]] = []
    reasons: dict[int, str] = {}
    ordered = sorted(parts, key=lambda part: part.age)
    for table in staged_labels(one.staging, ordered, [one.job.error_column]):
        offsets.append(table[OFFSET].to_numpy())
        if reasons:
            for offset in set(reasons).intersection(offsets[-1].tolist()):
                del reasons[offset]
        bad = table.filter(pc.is_valid(table[one.job.error_column]))
        reasons.update(zip(bad[OFFSET].to_pylist(), bad[one.job.error_column].to_pylist(), strict=True))
    return len(np.unique(np.concatenate(offsets))), reasons


def _report(run: Run, outcome: Outcome, started: float) -> TagReport:
    done = outcome.done
    computed = sum(one.computed for one in done)
    seconds = time.monotonic() - started
    return TagReport(
        uri=run.compute.location.uri,
        jobs=tuple(job.digest for job in run.jobs),
        version_before=run.compute.version,
        version_after=outcome.version,
        rows=run.rows,
        computed=computed,
        skipped=sum(one.seen for one in done) - computed if done else run.rows - run.missing,
        failed=outcome.failed,
        columns=tuple(name for job in run.jobs for name in job.columns.names),
        errors=outcome.errors,
        bytes_read=sum(one.bytes_read for one in done),
        bytes_written=outcome.written + sum(one.bytes_written for one in done),
        seconds=seconds,
        rows_per_second=computed / seconds,
    )


def _properties(run: Run) -> dict[str, str]:
    return {
        "laketag.job": ",".join(job.digest for job in run.jobs),
        "laketag.taggers": ",".join(job.name for job in run.jobs),
        "laketag.rows": str(run.missing),
    }
