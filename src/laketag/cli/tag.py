"""`laketag tag`."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from laketag.cli import progress, text
from laketag.cli.options import (
    EngineName,
    EngineOptions,
    ImageColumn,
    Inputs,
    Json,
    StorageOptions,
    Uri,
    Where,
    Workers,
    engine,
    pairs,
    store_options,
)
from laketag.cli.printing import print_json, tell

if TYPE_CHECKING:
    import laketag

_With = Annotated[
    list[str],
    typer.Option(
        "--with", metavar="TAGGER", help="NAME or module:attribute, as nsfw?threshold=0.3; repeats."
    ),
]
_RetryErrors = Annotated[bool, typer.Option("--retry-errors", help="Tag rows that failed once more.")]
_Recompute = Annotated[
    bool,
    typer.Option(
        "--recompute", help="Tag all rows, and replace columns of these names that something else made."
    ),
]
_CommitEvery = Annotated[
    int | None,
    typer.Option(
        "--commit-every", metavar="N", min=1, help="Commit on the way too, after every N fragments."
    ),
]
_Limit = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Tag at most so many rows that have no labels yet.")
]
_ChunkRows = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Rows staged at once, the unit of retry.")
]
_BatchSize = Annotated[int | None, typer.Option(metavar="N", min=1, help="Rows in one call of the model.")]
_Device = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Where models are loaded: cpu, cuda:0, or one for each worker: cuda:0,cuda:1."
    ),
]
_Threads = Annotated[int | None, typer.Option(metavar="N", min=1, help="Decoding threads in each worker.")]
_MaxErrorRate = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        min=0,
        max=1,
        help="Commit nothing when a greater share of rows fails; by default, when all do.",
    ),
]
_Slice = Annotated[
    str | None,
    typer.Option("--slice", metavar="K/N", help="Only the K-th of N parts, from 1 on, for array jobs."),
]
_StageOnly = Annotated[bool, typer.Option("--stage-only", help="Compute and stage; commit nothing.")]
_CommitOnly = Annotated[bool, typer.Option("--commit-only", help="Commit what is staged; compute nothing.")]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Time a sample and estimate the run; write nothing.")
]
_Price = Annotated[
    float | None,
    typer.Option(
        metavar="PRICE", min=0, help="What an hour of the machines costs; --dry-run then tells the cost."
    ),
]

_REASONS = 10
"""So many reasons are told to people; --json has them all."""


def tag(
    uri: Uri,
    taggers: _With,
    where: Where = None,
    limit: _Limit = None,
    retry_errors: _RetryErrors = False,
    recompute: _Recompute = False,
    column: ImageColumn = None,
    inputs: Inputs = None,
    chunk_rows: _ChunkRows = None,
    batch_size: _BatchSize = None,
    device: _Device = "cpu",
    threads: _Threads = None,
    max_error_rate: _MaxErrorRate = None,
    commit_every: _CommitEvery = None,
    part: _Slice = None,
    stage_only: _StageOnly = False,
    commit_only: _CommitOnly = False,
    dry_run: _DryRun = False,
    price_per_hour: _Price = None,
    engine_name: EngineName = "local",
    workers: Workers = None,
    engine_option: EngineOptions = None,
    storage_option: StorageOptions = None,
    as_json: Json = False,
) -> None:
    """Run taggers over the images and commit their columns.

    All taggers share one pass, which reads the image column only, and one transaction. Only rows
    without labels are computed. The same command again goes on where a broken one stopped.
    """
    import laketag

    devices = device.count(",") + 1
    place = engine(engine_name, workers or (devices if devices > 1 else None), engine_option)
    with progress.shown("tag") as report_progress:
        settings = laketag.TagSettings(
            column=column,
            inputs=pairs("--input", inputs),
            chunk_rows=chunk_rows,
            batch_size=batch_size,
            device=device,
            threads=threads,
            max_error_rate=max_error_rate,
            commit_every=commit_every,
            slice=_slice(part),
            stage_only=stage_only,
            commit_only=commit_only,
            dry_run=dry_run,
            price_per_hour=price_per_hour,
            progress=report_progress,
        )
        report = laketag.tag(
            uri,
            taggers,
            storage_options=store_options(uri, storage_option),
            rows=laketag.Rows(where, limit, retry_errors, recompute),
            settings=settings,
            engine=place,
        )
    if as_json:
        print_json(report.to_json())
        return
    tell(_told(report, dry_run=dry_run, stage_only=stage_only))


def _slice(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    k, _, n = text.partition("/")
    if not (k.isdecimal() and n.isdecimal()):
        raise typer.BadParameter(f"{text!r} is not K/N, as 3/64", param_hint="--slice")
    return int(k), int(n)


def _told(report: laketag.TagReport, *, dry_run: bool, stage_only: bool) -> list[str]:
    if dry_run:
        missing = report.rows - report.skipped if report.estimate is None else report.estimate.rows
        return [
            f"{report.uri}: {missing:,} of {text.count(report.rows, 'row')} would be tagged; nothing done",
            f"columns  {', '.join(report.columns)}",
            *_estimated(report.estimate),
        ]
    if stage_only:
        return [
            f"{report.uri}: {text.count(report.computed, 'row')} computed and staged; nothing is committed",
            "the same command with --commit-only, and without --slice, commits what is staged",
        ]
    left = report.rows - report.computed - report.skipped
    if report.version_after == report.version_before:
        return _nothing_done(report, left)
    labels = [name for name in report.columns if not name.endswith("_DIGEST")]
    return [
        f"{report.uri}: version {report.version_before} -> {report.version_after}",
        *_reserved(report),
        _rows(report),
        *([f"left     {text.count(left, 'row')}; `laketag tag` computes them"] if left else []),
        *_failures(report),
        f"columns  {', '.join(labels)}",
        f"read     {text.size(report.bytes_read)}, only the columns that the taggers read{_tars(report)}",
        f"written  {text.size(report.bytes_written)}, only labels",
        f"time     {text.duration(report.seconds)}, {report.rows_per_second:,.1f} rows/s",
        *_speed(report.speed),
    ]


def _rows(report: laketag.TagReport) -> str:
    labelled = max(0, report.skipped - report.staged)
    staged = f"{report.staged:,} were staged before, " if report.staged else ""
    return f"rows     {report.computed:,} computed, {staged}{labelled:,} had labels, {report.failed:,} failed"


def _tars(report: laketag.TagReport) -> str:
    return f"; the images, from {text.count(report.tars, 'tar')}, are not counted" if report.tars else ""


def _nothing_done(report: laketag.TagReport, left: int) -> list[str]:
    if left:
        return [
            f"{report.uri}: nothing of this part is left to do, version {report.version_before} stands;"
            f" {text.count(left, 'row')} of other parts have no labels (a part is of chunks:"
            " where they are few, lower --chunk-rows, for all parts alike)"
        ]
    if not report.rows:
        return [
            f"{report.uri}: the filter passes no row, or there is none; nothing to do,"
            f" version {report.version_before} stands"
        ]
    return [
        f"{report.uri}: all {text.count(report.rows, 'row')} have labels;"
        f" nothing to do, version {report.version_before} stands"
    ]


def _estimated(estimate: laketag.Estimate | None) -> list[str]:
    if estimate is None:
        return []
    failed = f", {estimate.sampled_failed:,} of which failed" if estimate.sampled_failed else ""
    cost = [] if estimate.cost is None else [f"cost     about {estimate.cost:,.2f}"]
    return [
        f"work     {text.count(estimate.rows, 'row')}, {text.size(estimate.bytes)} to read,"
        f" {text.count(estimate.tasks, 'task')} for {text.count(estimate.workers, 'worker')}",
        f"sample   {text.count(estimate.sampled, 'row')}{failed}, at {estimate.rows_per_second:,.1f} rows/s",
        *_speed(estimate.speed),
        f"time     about {text.duration(estimate.seconds)}",
        *cost,
    ]


def _reserved(report: laketag.TagReport) -> list[str]:
    if report.version_reserved is None:
        return []
    return [
        f"columns were made empty first, in version {report.version_reserved}, and filled in a second one:"
        " others wrote all the time, or the run fills other columns that were there before"
    ]


def _speed(speed: laketag.Speed | None) -> list[str]:
    return [f"speed    {speed.line}", f"faster   {speed.advice}"] if speed else []


def _failures(report: laketag.TagReport) -> list[str]:
    taggers: dict[tuple[int, str], list[str]] = {}
    for one in report.errors:
        taggers.setdefault((one.rows, one.reason), []).append(one.tagger)
    lines = [
        f"failed   {text.count(rows, 'row')}: {reason} ({', '.join(names)})"
        for (rows, reason), names in islice(taggers.items(), _REASONS)
    ]
    if len(taggers) > _REASONS:
        rest = sum(rows for rows, _ in islice(taggers, _REASONS, None))
        more = text.count(len(taggers) - _REASONS, "more reason")
        lines.append(f"failed   {text.count(rest, 'row')}: {more}; --json names them all")
    return lines
