"""`tag`: the line from plan to commit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike

from laketag.engines.local import Local
from laketag.engines.protocol import Engine, cpus_of, require_engine
from laketag.errors import WrongUsage
from laketag.lake.changing import set_field_metadata
from laketag.lake.dataset import open_dataset
from laketag.lake.explaining import explaining
from laketag.lake.labels import made_by, recorded
from laketag.lake.links import require_links
from laketag.lake.location import Location
from laketag.lake.pinning import pinned
from laketag.lake.probing import require_put_if_absent
from laketag.taggers.pipeline import cores
from laketag.taggers.protocol import Tagger, check_together, settled
from laketag.taggers.spec import find_or_check
from laketag.tagging.checked import known_after, write_checked
from laketag.tagging.compute import Compute
from laketag.tagging.holding import leased_jobs
from laketag.tagging.job import ADOPTED_FROM
from laketag.tagging.preparing import Look, Run, jobs_of, look, plan
from laketag.tagging.report import TagReport
from laketag.tagging.sampling import estimate
from laketag.tagging.settings import Rows, TagSettings
from laketag.tagging.staging import AGAIN, Index, Staging
from laketag.tagging.underway import UnderWay


@explaining
def tag(
    uri: str | PathLike[str],
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
        WrongUsage: no tagger is given, the engine is none, or settings do not go together.
        JobRefused: a column of the same name was made by something else.
        TooManyErrors: more rows failed than `max_error_rate`; nothing is committed, the work is staged.
        CommitError: no version could be made; the work is staged.
        Interrupted: Ctrl-C or SIGTERM; the work so far is staged.
    """
    started = time.monotonic()
    taggers = [taggers] if isinstance(taggers, str | Tagger) else taggers
    require_engine(engine)
    _check_devices(settings.devices, engine)
    found = [settled(find_or_check(tagger), settings.devices[0]) for tagger in taggers]
    if not found:
        raise WrongUsage("no tagger is given; name one, as nsfw")
    check_together(found)
    location = Location.of(uri, storage_options)
    dataset = open_dataset(location)
    todo = jobs_of(dataset.schema, found, rows, settings)
    seen = look(location, dataset, todo, rows=rows, settings=settings)
    if settings.dry_run or not (seen.has_work or (settings.commit_only and _has_staged(seen))):
        run = plan(seen, settings, counts_staged=False)
        report = _report(UnderWay(run, settings), started)
        return _with_estimate(report, run, engine, settings.price_per_hour) if run.tasks else report
    # Now, not after hours of work that could not be committed.
    require_put_if_absent(location)
    tars = require_links(location)
    with leased_jobs(location, todo.jobs, settings.part):
        # Until the lease was held, another run of the job may have ended.
        latest = open_dataset(location)
        if latest.version != dataset.version:
            todo = jobs_of(latest.schema, found, rows, settings)
            seen = look(location, latest, todo, rows=rows, settings=settings)
        run = plan(seen, settings)
        under_way = UnderWay(run, settings)
        if run.tasks:
            _work(under_way, engine)
    return replace(_report(under_way, started), tars=tars if under_way.total.computed else 0)


def _has_staged(seen: Look) -> bool:
    """Whether something is staged: rows that were tried again are missing to a run that tries none again."""
    return any(seen.compute.staging(number).rows_staged() for number in range(len(seen.jobs)))


def _work(under_way: UnderWay, engine: Engine) -> None:
    run, settings = under_way.run, under_way.settings
    with pinned(run.compute.location, run.compute.version, run.jobs[0].digest, settings.part):
        if not settings.commit_only:
            under_way.compute(_with_threads(run.compute, engine), engine)
        # A tar that was changed meanwhile gave wrong images, or none.
        require_links(run.compute.location)
        if settings.stage_only:
            return
        under_way.commit()
        if run.compute.work == AGAIN and run.look.is_whole and not settings.commit_only:
            _disown(run)
            _forget(run)
        _note_what_is_known(under_way)


def _check_devices(devices: Sequence[str], engine: Engine) -> None:
    if len(devices) == 1 and devices[0]:
        return
    if not all(devices) or len(set(devices)) < len(devices):
        raise WrongUsage(f"--device is {','.join(devices)}; give different names, as cuda:0,cuda:1")
    if not isinstance(engine, Local) or engine.workers < len(devices):
        raise WrongUsage(
            f"{len(devices)} devices need as many workers on this machine: give --engine local and "
            f"--workers {len(devices)}"
        )


def _with_estimate(report: TagReport, run: Run, engine: Engine, price: float | None) -> TagReport:
    placed = replace(run, look=replace(run.look, compute=_with_threads(run.compute, engine)))
    return replace(report, estimate=estimate(placed, engine, price))


def _with_threads(compute: Compute, engine: Engine) -> Compute:
    share = cpus_of(engine, cores())
    return replace(compute, threads=compute.threads or share, cores=share)


def _disown(run: Run) -> None:
    """Where all rows of adopted columns were computed, no longer say that something else made them."""
    schema = open_dataset(run.compute.location).schema
    columns = [column for job in run.jobs for column in job.columns if column.name in schema.names]
    said = {
        column.name: recorded(made_by(column))
        for column in columns
        if ADOPTED_FROM in made_by(schema.field(column.name))
    }
    if said:
        set_field_metadata(run.compute.location, said)


def _forget(run: Run) -> None:
    """Where all rows were computed again, drop what was staged before: a later run would commit it."""
    for job in run.jobs:
        before = Staging(run.compute.location, job.digest)
        before.clear(Index.of(before.parts()))


def _note_what_is_known(under_way: UnderWay) -> None:
    run, seen, outcome = under_way.run, under_way.run.look, under_way.outcome
    location = run.compute.location
    after = open_dataset(location, outcome.version)
    is_whole = seen.is_whole and not under_way.settings.commit_only
    for job, checked in zip(run.jobs, seen.checked, strict=True):
        known = known_after(seen.dataset, after, job, checked, is_whole=is_whole, outcome=outcome)
        if replace(known, version=checked.version) != checked:
            write_checked(location, job, known)


def _skipped(under_way: UnderWay) -> int:
    """Count the rows that were looked at and have labels now, those of this command included."""
    seen = under_way.run.look
    if under_way.total.tasks:
        # Behind the last row of a limit nothing is looked at: selected rows there have labels.
        is_cut = seen.end is not None and under_way.settings.slice is None
        return seen.rows if is_cut else under_way.total.seen
    return seen.rows - seen.missing + min(seen.missing, under_way.outcome.rows)


def _report(under_way: UnderWay, started: float) -> TagReport:
    run, total, outcome = under_way.run, under_way.total, under_way.outcome
    seconds = time.monotonic() - started
    return TagReport(
        uri=run.compute.location.uri,
        jobs=tuple(job.digest for job in run.jobs),
        version_before=run.compute.version,
        version_after=outcome.version,
        version_reserved=outcome.reserved,
        rows=run.look.rows,
        computed=total.computed,
        skipped=_skipped(under_way) - total.computed,
        staged=max(0, outcome.rows - total.computed),
        failed=outcome.failed,
        columns=tuple(name for job in run.jobs for name in job.columns.names),
        errors=outcome.errors,
        bytes_read=total.bytes_read,
        tars=0,
        bytes_written=outcome.written + total.bytes_written,
        seconds=seconds,
        rows_per_second=total.computed / seconds,
        speed=under_way.speed,
    )
