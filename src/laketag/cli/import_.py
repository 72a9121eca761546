"""`laketag import`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from laketag.cli import progress, text
from laketag.cli.leaving import INCOMPLETE, WRONG_USAGE
from laketag.cli.options import (
    EngineName,
    EngineOptions,
    Json,
    ShardOptions,
    StorageOptions,
    Uri,
    Workers,
    engine,
    shard_options,
    store_options,
)
from laketag.cli.printing import print_json, say, tell

if TYPE_CHECKING:
    import laketag


class Import(TyperCommand):
    """The command, which takes its last word for the URI: of one word alone it cannot tell which it is."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words, and say what is missing."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            if error.param is None or error.param.name != "shards":
                raise
            say(
                "a shard or the URI is missing: import takes shards and, last, the dataset's URI, as "
                "laketag import photos-000.tar photos.lance"
            )
            raise typer.Exit(WRONG_USAGE) from None


_Shards = Annotated[
    list[str],
    typer.Argument(
        metavar="SHARD",
        help="Tars: files, folders, globs, {000..127}, s3:// or https://, or @FILE with one a line.",
    ),
]
_Append = Annotated[bool, typer.Option("--append", help="Add to a dataset that is there.")]
_Link = Annotated[
    bool, typer.Option("--link", help="Rows point into the tars, which must stay; no image is copied.")
]
_ImageEncoding = Annotated[str, typer.Option(metavar="binary|blob", help="How Lance stores images.")]
_RowsPerFragment = Annotated[
    int, typer.Option(metavar="N", min=1, help="At most so many rows in one fragment.")
]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Read the shards for schema and ledger; write nothing.")
]

_NAMED = 10
"""So many losses are named for people; --json has them all."""


def import_(
    shards: _Shards,
    uri: Uri,
    append: _Append = False,
    link: _Link = False,
    image_encoding: _ImageEncoding = "binary",
    rows_per_fragment: _RowsPerFragment = 100_000,
    shard_option: ShardOptions = None,
    dry_run: _DryRun = False,
    engine_name: EngineName = "local",
    workers: Workers = None,
    engine_option: EngineOptions = None,
    storage_option: StorageOptions = None,
    as_json: Json = False,
) -> None:
    """Make a dataset of WebDataset shards, or append to one.

    The same command again goes on where a broken one stopped. Exit code 3: done, but a shard was incomplete.
    """
    import laketag

    place = engine(engine_name, workers, engine_option)
    with progress.shown("import") as report_progress:
        settings = laketag.ImportSettings(
            append=append,
            link=link,
            image_encoding=image_encoding,
            rows_per_fragment=rows_per_fragment,
            shard_options=shard_options(shards, uri, shard_option),
            dry_run=dry_run,
            progress=report_progress,
            tell=say,
        )
        report = laketag.import_(
            shards,
            uri,
            storage_options=store_options(uri, storage_option, shards=shards),
            settings=settings,
            engine=place,
        )
    if as_json:
        print_json(report.to_json())
    else:
        tell(_told(report, dry_run=dry_run))
    if not report.complete:
        raise typer.Exit(INCOMPLETE)


def _told(report: laketag.ImportReport, *, dry_run: bool) -> list[str]:
    return [*_summary(report, dry_run=dry_run), *_ledger(report)]


def _summary(report: laketag.ImportReport, *, dry_run: bool) -> list[str]:
    shards = f"{text.count(report.samples, 'sample')} in {text.count(report.shards, 'shard')}"
    if report.version is None and not dry_run:
        return [f"{report.uri}: {shards}; nothing was imported"]
    if report.rows_added == 0 and not dry_run:
        done = "all there already; nothing to do" if report.samples else "nothing was imported"
        return [f"{report.uri}: {shards}, {done}, version {report.version} stands"]
    made = "a dry run, nothing was written" if dry_run else f"version {report.version}"
    added = "would be added" if dry_run else "added"
    lines = [
        f"{report.uri}: {made}",
        f"rows     {report.rows_added:,} {added}, {report.rows:,} in all; {shards}",
        f"columns  {', '.join(column['name'] for column in report.columns)}",
        f"read     {text.size(report.bytes_read)} of {text.size(report.bytes_shards)} of shards",
    ]
    if not dry_run:
        lines.append(f"written  {text.size(report.bytes_written)}")
    return [*lines, f"time     {text.duration(report.seconds)}"]


def _ledger(report: laketag.ImportReport) -> list[str]:
    skipped = Counter(one["reason"] for one in report.skipped)
    lines = [f"skipped  {text.count(number, 'member')}: {reason}" for reason, number in skipped.most_common()]
    lines += [
        f"clash    {one['name']}, in the column {one['column']}: {one['reason']}"
        for one in report.schema_clashes
    ]
    lines += [
        f"lost     {one['shard']} at {one['offset']:,}: {one['reason']}" for one in report.lost[:_NAMED]
    ]
    if len(report.lost) > _NAMED:
        lines.append(f"lost     {len(report.lost) - _NAMED:,} more; --json names them all")
    return lines
